"""The command line: a client of the running server, through the same API that everybody uses."""
