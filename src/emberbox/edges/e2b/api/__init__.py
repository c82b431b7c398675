"""The control plane that E2B's SDKs ask for sandboxes."""
