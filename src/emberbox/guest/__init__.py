"""The host's side of the guest agent's protocol. It distrusts what comes from the guest."""
