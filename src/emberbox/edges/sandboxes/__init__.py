"""What the edges for sandboxes have in common: who asks, and what is done in a sandbox for him."""
