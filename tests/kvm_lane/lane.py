"""Runs tests/vm on KVM in an emulated machine and prints what pytest would print; see docs/testing.md.

python tests/kvm_lane/lane.py [--reduced] [--continue] [pytest arguments]

What became of each test is kept as soon as it is known. `--continue` goes on where an earlier run on the same code
ended, however it did.
"""

from __future__ import annotations

import functools
import json
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from emberbox.model.errors import EmberboxError
from kvm_lane.emulator import SUITE, find_emulator
from kvm_lane.machine import (
    CACHE,
    CHECKOUT,
    SCALE,
    SHARE,
    Images,
    LaneError,
    Machine,
    MachineDied,
    cache_directory,
    check_tools,
    pack_checkout,
)
from kvm_lane.results import Results
from kvm_lane.seed import make_seed, seed_key

RENEW_CPU_S = 3600.0
"""The machine is started anew after so much work of the emulator's, between tests; it has not been seen to do more.

It is the processor time that it has used: on a busy machine an hour may be little work.
"""

TRIES = 3
"""How often a test is begun that the machine died in."""

IDLE_STARTS = 3
"""How often the machine may be started in a row without that a test ends."""

REDUCED = (
    "tests/vm/test_vm_cage.py::test_the_vmm_has_no_privileges",
    "tests/vm/test_vm_suspend.py::test_a_resumed_microvm_goes_on_where_it_was",
    "tests/vm/test_vm_suspend.py::test_the_monotonic_clock_goes_on_while_suspended",
    "tests/vm/test_vm_forks.py::test_forks_go_on_from_the_instant_each_by_itself",
    "tests/vm/test_vm_restart.py::test_running_microvms_outlive_a_killed_server",
)
"""One test each of the cage, launch, suspend and resume, the clock, forks, and a server that takes over VMMs."""


def say(text: str) -> None:
    """Tell what the lane itself does."""
    print(f"kvm lane: {text}", flush=True)


def main(arguments: list[str]) -> int:
    """Run the lane; return pytest's exit code, or 3 when the machine cannot be made or used."""
    chosen = [argument for argument in arguments if argument not in ("--reduced", "--continue")]
    if "--reduced" in arguments:
        chosen += REDUCED
    elif not any(Path(argument.partition("::")[0]).exists() for argument in chosen):
        chosen.append("tests/vm")
    results = Results()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is cleaned up
    try:
        check_tools()
        emulator = find_emulator(cache_directory() / f"qemu-{SUITE}", say)
        images = Images(say, lambda place: make_seed(place, say), seed_key())
        with tempfile.TemporaryDirectory(prefix="kvm-lane-", dir="/var/tmp") as scratch:
            checkout = Path(scratch) / "checkout.tar"
            keep = Keep(results, cache_directory() / "results.json", pack_checkout(checkout))  # once: all test the same
            if "--continue" in arguments:
                keep.take_up()
            make_machine = functools.partial(Machine, emulator, images, checkout)
            _run_all(make_machine, chosen, keep)
            if bad := results.repeat_bad():
                say(f"what did not pass is run once more: {len(bad)} of {len(results.collected)} tests")
                _run_all(make_machine, bad, keep)
    except (LaneError, EmberboxError) as error:
        say(str(error))
        print(results.summary())
        return 3
    print(results.summary())
    return results.code()


@dataclass(frozen=True, slots=True)
class Keep:
    """Results, and where they are kept.

    Args:
        results: the results.
        path: the file.
        checkout: names the code that is tested.
    """

    results: Results
    path: Path
    checkout: str

    def take_up(self) -> None:
        """Begin with what an earlier run has kept.

        Raises:
            LaneError: there is nothing that is of this code.
        """
        if not self.results.load(self.path, self.checkout):
            raise LaneError("there is no earlier run of the code as it is now: run without --continue")
        say(f"{len(self.results.outcomes)} tests have ended before")

    def save(self) -> None:
        """Keep what is known."""
        self.results.save(self.path, self.checkout)

    def take(self, line: str) -> str | None:
        """See `Results.take`; what a test came to is kept before it is told."""
        told = self.results.take(line)
        if told:
            self.save()
        return told


def _run_all(make_machine: Callable[[Path], Machine], chosen: list[str], keep: Keep) -> None:
    idle, results = 0, keep.results
    while True:
        ended_before = len(results.outcomes)
        with tempfile.TemporaryDirectory(prefix="kvm-lane-", dir="/var/tmp") as name:
            machine = make_machine(Path(name))
            try:
                say(f"the machine is up, after {machine.start():.0f} s")
                if _run_once(machine, chosen, keep):
                    return
                say("the machine is started anew before the emulator fails")
            except MachineDied as died:
                test = results.note_death(TRIES)
                keep.save()
                last = str(died).strip().splitlines()[-1:] or ["its console says nothing"]
                repeated = f"{test} is repeated" if test else "no test was under way"
                say(f"the emulated machine died ({last[0][:200]}); {repeated}")
            finally:
                machine.stop()
        idle = 0 if len(results.outcomes) > ended_before else idle + 1
        if idle >= IDLE_STARTS:
            raise LaneError(f"the emulated machine was started {IDLE_STARTS} times without that a test ended")


def _run_once(machine: Machine, chosen: list[str], keep: Keep) -> bool:
    """Run what is left on one start of the machine; say whether that was all.

    Raises:
        MachineDied: it ended before that.
        LaneError: pytest itself failed.
    """
    results = keep.results
    (machine.share / "done.json").write_text(json.dumps(sorted(results.outcomes)))
    reports, position = machine.share / "reports.jsonl", 0
    reports.touch()
    results.has_ended = False

    def read_reports() -> None:
        nonlocal position
        if machine.cpu_seconds() > RENEW_CPU_S:
            (machine.share / "renew").touch()
        with reports.open("rb") as file:
            file.seek(position)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                position += len(line)
                if told := keep.take(line.decode()):
                    print(told, flush=True)

    try:
        code, said = machine.run(_script(chosen), read_reports)
    finally:
        read_reports()
    if not results.has_ended or code not in (0, 1, 2, 5):
        raise LaneError(f"pytest ended with code {code}:\n{said[-6000:]}")
    if code == 2 and not results.was_stopped:
        print(said[-6000:])
    return not results.was_stopped


def _script(chosen: list[str]) -> str:
    environment = {
        "CI": "true",
        "EMBERBOX_ACCELERATOR": "kvm",
        "EMBERBOX_BUILDS": "host",  # its seed has a container store, and gVisor would be emulated twice
        "EMBERBOX_TIME_SCALE": str(SCALE),
        "KVM_LANE_SHARE": str(SHARE),
        "PYTHONPATH": str(CHECKOUT / "tests"),
        "PYTHONUNBUFFERED": "1",
        "XDG_CACHE_HOME": str(CACHE),
    }
    pytest = [str(CHECKOUT / ".venv/bin/python"), "-m", "pytest", "-p", "kvm_lane.record", "-p", "no:cacheprovider"]
    return "\n".join(
        [
            "ulimit -n 65536",
            f"cd {shlex.quote(str(CHECKOUT))}",
            *(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
            f"exec {shlex.join([*pytest, '-n', '0', '-v', *chosen])}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
