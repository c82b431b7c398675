"""Daytona's API: its control plane (`api`), and what its daemon answers in a sandbox (`toolbox`)."""
