"""What E2B's code interpreter answers at port 49999 of a sandbox: code, and contexts whose variables stay."""
