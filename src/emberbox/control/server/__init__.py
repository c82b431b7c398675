"""What the server tells of itself, of its machine and of what has happened."""
