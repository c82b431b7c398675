"""The life of microVMs: the operations on them, and the owner of each."""
