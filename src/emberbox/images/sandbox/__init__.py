"""Builds inside a boundary: what the host does for them, which never reads a Dockerfile nor what it makes."""
