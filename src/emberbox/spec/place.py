"""Where Emberbox's own service model is; apart, so that whoever needs the path alone loads no models."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DATA_PATH: Final = Path(__file__).parent / "data"
"""For botocore's loader, and for clients: AWS_DATA_PATH."""
