"""What resources of stacks are made of: AWS's operations, called as their clients call them, one module a kind."""
