"""The judgement of each request to an endpoint."""
