"""Rows and transactions. Queries are methods that return model types; nothing of SQL leaves this package."""
