"""The certificates of endpoints."""
