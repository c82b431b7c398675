"""Sandboxes: microVMs as E2B's API knows them."""
