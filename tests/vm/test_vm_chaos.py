"""A minute of chaos: random operations while processes are killed. `benchmarks/chaos.py` is the long form."""

from __future__ import annotations

import logging
import random

import pytest

from support.chaos import Chaos
from support.server import Server, make_home

log = logging.getLogger(__name__)

pytestmark = pytest.mark.vm

SECONDS = 60
CROWD = 6


def test_nothing_is_lost_or_left_over_whatever_is_killed() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    log.info("replay: benchmarks/chaos.py --seed %d --microvms %d --seconds %d --workers 3", seed, CROWD, SECONDS)
    server = Server(make_home())
    try:
        Chaos(server, seed, CROWD, SECONDS, 3, log.info).run()
    finally:
        server.remove()
