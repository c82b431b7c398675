"""Envoy: its configuration, what it may let pass by itself, and what it reports."""
