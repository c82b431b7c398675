"""The API for asyncio, which the blocking one is made from."""
