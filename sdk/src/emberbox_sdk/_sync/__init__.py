"""The blocking API, made from the one for asyncio by sdk/make_sync.py."""
