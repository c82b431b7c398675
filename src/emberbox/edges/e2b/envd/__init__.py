"""What E2B's daemon in a sandbox answers, done from outside with commands in it."""
