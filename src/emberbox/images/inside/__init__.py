"""What runs in the sandbox of a build, with the standard library alone: nothing here is run on the host."""
