"""What opens a microVM's endpoint: tokens and ingress connectors."""
