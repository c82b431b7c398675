"""Images and their versions: the operations, the rules of their requests, and builds."""
