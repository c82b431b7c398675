"""The console: a web page for people, and what it asks of the server on behalf of the key that it was opened with."""
