"""The edge in front of the guests: Envoy, and the authoriser that Envoy asks about every request."""
