"""The language of access: who, what, which policies and which limits."""
