"""The composition root: reads settings, builds the objects, starts the servers, and stops them in order."""

from emberbox.app.server import serve

__all__ = ["serve"]
