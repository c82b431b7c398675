"""A server, the image that sandboxes have, and what `emberbox env` prints."""

from __future__ import annotations

import pytest

from emberbox.cli.context import get_server
from emberbox.cli.env import variables
from emberbox_sdk import Client, Config, Image
from support.images import ImageMaker
from support.server import Server


@pytest.fixture(scope="session")
def environment(server: Server, images: ImageMaker) -> dict[str, str]:  # which makes its bucket where there is none yet
    """Build the image once, so that no framework waits for it."""
    found = variables(get_server(server.home))
    with Client(Config.from_environment(found)) as client:
        Image.default(client=client)
    return found
