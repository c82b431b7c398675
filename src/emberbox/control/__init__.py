"""The service's rules: images, microVMs, tokens, logs. Starts no process itself and speaks no HTTP."""
