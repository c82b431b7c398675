"""What the holder of a shell token is served: shells, commands and files."""
