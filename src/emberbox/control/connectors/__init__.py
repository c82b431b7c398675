"""Network connectors, and what they let microVMs reach."""
