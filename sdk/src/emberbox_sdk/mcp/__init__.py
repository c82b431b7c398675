"""A server for MCP clients: sandboxes as tools. It needs `emberbox-sdk[mcp]`."""
