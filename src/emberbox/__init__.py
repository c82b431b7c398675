"""Emberbox: AWS Lambda MicroVMs on your own Linux machine."""
