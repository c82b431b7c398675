"""From a zip with a Dockerfile to a published snapshot."""
