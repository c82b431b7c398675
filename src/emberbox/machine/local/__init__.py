"""The machine that this server runs on, behind `machine/base.py`: guests, files and connections, found by their ids."""

from emberbox.machine.local.checkpoints import LocalCheckpoints
from emberbox.machine.local.engines import LocalEngines
from emberbox.machine.local.leftovers import LocalLeftovers
from emberbox.machine.local.machine import LocalMachine
from emberbox.machine.local.places import Places
from emberbox.machine.local.snapshots import LocalSnapshots

__all__ = ["LocalCheckpoints", "LocalEngines", "LocalLeftovers", "LocalMachine", "LocalSnapshots", "Places"]
