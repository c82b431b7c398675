"""Random operations on many microVMs while processes are killed, and a model that knows what must have come of it.

Each microVM counts in its memory and on its disk. The model holds the counts that are possible: one after an answer,
more after an operation whose end nobody saw. A microVM may end only when somebody asked for it or its VMM was killed.
Everything random comes from one seed; what each worker does next depends on it alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from emberbox.process.adoption import error_logs
from emberbox.time_limits import limit_s
from support import host
from support.aws import Clients
from support.guests import Gateway, Microvm
from support.images import READY_HOOK, Image, ImageMaker, probe_files
from support.server import Server
from support.waiting import wait_for

COUNT = "read n 2>/dev/null </dev/shm/n; n=$((n+1)); echo $n >/dev/shm/n; echo $n >/data/n; cat /dev/shm/n /data/n"
POLICY = {"maxIdleDurationSeconds": 28800, "suspendedDurationSeconds": 28800, "autoResumeEnabled": True}
SETTLE_S = 180.0
UNSEEN = (BotoCoreError, httpx.HTTPError, OSError)
"""The server or the gateway was gone: what was asked for may have happened or not."""


class ViolationError(AssertionError):
    """Something is not as the model says."""


@dataclass
class Modelled:
    """What the model knows of one microVM."""

    id: str
    counts: set[int]
    may_end: bool = False
    checkpoints: dict[str, set[int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Chaos:
    """One run.

    Args:
        server: not started yet; it is stopped, and its home removed, at the end of `run`.
        seed: decides what is done and killed.
        crowd: how many microVMs there are at a time.
        seconds: for how long.
        workers: how many callers at a time.
        say: prints what happens.
    """

    def __init__(
        self, server: Server, seed: int, crowd: int, seconds: float, workers: int, say: Callable[[str], None]
    ) -> None:
        self._server, self._seed, self._crowd, self._seconds = server, seed, crowd, seconds
        self._workers, self._say = workers, say
        self._microvms: dict[str, Modelled] = {}
        self._violations: list[str] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._clients: Clients | None = None
        self._gateway: Gateway | None = None
        self._image: Image | None = None
        self.done: Counter[str] = Counter()
        """How often each operation was tried and each kind of process killed."""

    def run(self) -> None:
        """Do it.

        Raises:
            ViolationError: something was lost, ended by itself or is left over; all of it is in the text.
        """
        self._server.start()
        self._connect()
        self.clients.emberbox.put_quota(quotaCode="VersionsPerImage", value=10_000)  # each checkpoint is one
        self._image = ImageMaker(self.clients, self._server.endpoints["region"]).build(
            "chaos", probe_files(), hooks=READY_HOOK
        )
        for _ in range(self._crowd):
            self._launch()
        threads = [threading.Thread(target=self._work, args=(number,)) for number in range(self._workers)]
        threads.append(threading.Thread(target=self._kill))
        for thread in threads:
            thread.start()
        self._over.wait(self._seconds)
        self._over.set()
        for thread in threads:
            thread.join()
        self._settle()
        self._finish()
        if self._violations:
            raise ViolationError(f"seed {self._seed}: " + "\n".join(self._violations))

    # --- the world

    @property
    def clients(self) -> Clients:
        """The API of the server that runs now."""
        assert self._clients is not None
        return self._clients

    def _connect(self) -> None:
        clients = Clients.of(self._server)
        self._clients, self._gateway = clients, Gateway(self._server, clients)

    def _handle(self, microvm_id: str) -> Microvm:
        assert self._gateway is not None
        endpoint = self.clients.microvms.get_microvm(microvmIdentifier=microvm_id)["endpoint"]
        return Microvm(microvm_id, endpoint, self._gateway)

    def _violate(self, text: str) -> None:
        self._say(f"VIOLATION {text}")
        with self._lock:
            self._violations.append(text)

    def _insist(self, call: Callable[[], Any]) -> Any:
        """Repeat a call with a client token until its answer is seen."""
        deadline = time.monotonic() + limit_s(SETTLE_S)
        while True:
            try:
                return call()
            except UNSEEN:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    # --- operations

    def _work(self, number: int) -> None:
        chance = random.Random(f"{self._seed} worker {number}")
        names = list(OPERATIONS)
        while not self._over.is_set():
            name = chance.choices(names, [OPERATIONS[name] for name in names])[0]
            place = chance.random()
            with self._some(place) as microvm:
                if microvm is not None:
                    self._try(name, microvm)

    @contextlib.contextmanager
    def _some(self, place: float) -> Iterator[Modelled | None]:
        """Yield a microVM that no other worker has in hand."""
        with self._lock:
            order = list(self._microvms.values())
        for microvm in order[int(place * len(order)) :]:
            if microvm.lock.acquire(blocking=False):
                try:
                    yield microvm
                finally:
                    microvm.lock.release()
                return
        yield None

    def _try(self, name: str, microvm: Modelled) -> None:
        self.done[name] += 1
        try:
            getattr(self, f"_{name}")(microvm)
        except UNSEEN:
            time.sleep(0.3)
        except ClientError as error:
            self._refused(name, microvm, error)
        except Exception:
            self._violate(f"{name} of {microvm.id}: {traceback.format_exc(limit=4)}")

    def _refused(self, name: str, microvm: Modelled, error: ClientError) -> None:
        """A refusal must come from a state that others brought about, or from the end that was allowed."""
        text = f"{name} of {microvm.id}: {error}"
        code = error.response["Error"]["Code"]
        if "has been terminated" in str(error) or code == "ResourceNotFoundException":
            self._ended(microvm, text)
        elif code not in ("ConflictException", "InternalServerException"):
            self._violate(text)

    def _ended(self, microvm: Modelled, text: str) -> None:
        with self._lock:
            known = self._microvms.pop(microvm.id, None)
        if known is None:
            return
        if not microvm.may_end:
            reason = self._insist(lambda: self._describe(microvm.id)).get("stateReason")
            self._violate(f"{microvm.id} has ended by itself ({reason}); {text}")
        self._launch()

    def _describe(self, microvm_id: str) -> dict[str, Any]:
        described: dict[str, Any] = self.clients.microvms.get_microvm(microvmIdentifier=microvm_id)
        return described

    def _launch(self) -> None:
        """Add a microVM; an answer that was not seen is asked for again with the same client token."""
        assert self._image is not None
        arn, token = self._image.arn, str(uuid.uuid4())
        answer = self._insist(
            lambda: self.clients.microvms.run_microvm(
                imageIdentifier=arn, imageVersion="1.0", idlePolicy=POLICY, clientToken=token
            )
        )
        with self._lock:
            self._microvms[answer["microvmId"]] = Modelled(answer["microvmId"], {0})

    def _count(self, microvm: Modelled) -> None:
        """Count one further, in memory and on the disk."""
        possible = microvm.counts | {count + 1 for count in microvm.counts}
        known, microvm.counts = microvm.counts, possible
        answer = self._handle(microvm.id).request("POST", "/sh", content=COUNT)
        if answer.status_code != 200:
            if self._describe(microvm.id)["state"] == "TERMINATED":
                self._ended(microvm, f"count answered {answer.status_code}")
            return
        memory, disk = (int(word) for word in answer.text.split())
        if memory != disk or memory - 1 not in known:
            self._violate(f"{microvm.id} counts {memory} in memory and {disk} on its disk, expected one after {known}")
        microvm.counts = {memory}

    def _suspend(self, microvm: Modelled) -> None:
        self._handle(microvm.id).suspend()

    def _resume(self, microvm: Modelled) -> None:
        self._handle(microvm.id).resume()

    def _fork(self, microvm: Modelled) -> None:
        """A fork counts on from its source; it replaces another microVM, so that the crowd stays as large."""
        token = str(uuid.uuid4())
        answer = self._insist(
            lambda: self.clients.emberbox.fork_microvm(microvmIdentifier=microvm.id, count=1, clientToken=token)
        )
        for item in answer["items"]:
            with self._lock:
                self._microvms[item["microvmId"]] = Modelled(item["microvmId"], set(microvm.counts))
        if len(self._microvms) > self._crowd:
            self._terminate(microvm, replace=False)

    def _checkpoint(self, microvm: Modelled) -> None:
        token = str(uuid.uuid4())
        answer = self._insist(
            lambda: self.clients.emberbox.snapshot_microvm(
                microvmIdentifier=microvm.id, status="INACTIVE", clientToken=token
            )
        )
        if answer["state"] == "SUCCESSFUL":
            microvm.checkpoints[answer["imageVersion"]] = set(microvm.counts)

    def _restore(self, microvm: Modelled) -> None:
        if not microvm.checkpoints:
            return self._count(microvm)
        version, counts = max(microvm.checkpoints.items())
        known, microvm.counts = microvm.counts, microvm.counts | counts
        try:
            self.clients.emberbox.restore_microvm(microvmIdentifier=microvm.id, imageVersion=version)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConflictException":
                microvm.counts = known
            raise
        microvm.counts = set(counts)
        return None

    def _terminate(self, microvm: Modelled, *, replace: bool = True) -> None:
        microvm.may_end = True
        self._handle(microvm.id).terminate()
        with self._lock:
            self._microvms.pop(microvm.id, None)
        if replace:
            self._launch()

    # --- kills

    def _kill(self) -> None:
        chance = random.Random(f"{self._seed} kills")
        while not self._over.wait(chance.uniform(2, 6)):
            name = chance.choices(list(KILLS), list(KILLS.values()))[0]
            self.done[f"kill {name}"] += 1
            self._say(f"kill {name}")
            try:
                getattr(self, f"_kill_{name}")(chance)
            except Exception:
                self._violate(f"kill of {name}: {traceback.format_exc(limit=4)}")

    def _kill_server(self, chance: random.Random) -> None:
        self._server.kill()
        time.sleep(chance.uniform(0, 2))
        self._server.start()
        self._connect()

    def _kill_vmm(self, chance: random.Random) -> None:
        place = f"{self._server.home.resolve()}/microvms/"
        found = sorted((path, pid) for pid, path in error_logs() if path.startswith(place))
        if found:
            path, pid = chance.choice(found)
            microvm = self._microvms.get(path.removeprefix(place).split("/")[0])
            if microvm is not None:
                microvm.may_end = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _kill_envoy(self, _chance: random.Random) -> None:
        self._kill_helper("envoy")

    def _kill_s3(self, _chance: random.Random) -> None:
        note = self._server.home / "runtime" / "s3" / "s3.pid"
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(json.loads(note.read_text())["pid"]), signal.SIGKILL)

    def _kill_helper(self, program: str) -> None:
        for row in host.processes_of(self._server.home):
            pid, _, command = row.partition(" ")
            if os.path.basename(command.split(" ")[0]) == program:  # noqa: PTH119 - a word of a command line
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    # --- the end

    def _settle(self) -> None:
        """Every microVM that lives answers with a count that is possible."""
        for microvm in list(self._microvms.values()):
            before = len(self._violations)

            def counted(microvm: Modelled = microvm, before: int = before) -> bool:
                known = len(microvm.counts)
                self._try("count", microvm)
                ended = microvm.id not in self._microvms
                return ended or len(self._violations) > before or (len(microvm.counts) == 1 and known >= 1)

            wait_for(f"{microvm.id} counts", counted, SETTLE_S)

    def _finish(self) -> None:
        """End everything; nothing may be left."""
        rows = self.clients.microvms.get_paginator("list_microvms").paginate()
        live = {row["microvmId"] for page in rows for row in page["items"] if row["state"] != "TERMINATED"}
        if unknown := live - self._microvms.keys():
            self._violate(f"nobody asked for {unknown}")
        for microvm_id in live:
            self._handle(microvm_id).terminate()
        for microvm_id in live:
            self._handle(microvm_id).wait_ended()
        assert self._image is not None
        self.clients.microvms.delete_microvm_image(imageIdentifier=self._image.arn)
        wait_for("the image is gone", lambda: not list((self._server.home / "images").iterdir()), SETTLE_S)
        self._server.stop()
        left = [path.name for name in ("microvms", "builds") for path in (self._server.home / name).iterdir()]
        if left:
            self._violate(f"files are left: {left}")


OPERATIONS = {"count": 40, "suspend": 15, "resume": 10, "fork": 6, "checkpoint": 4, "restore": 4, "terminate": 3}
KILLS = {"server": 3, "vmm": 4, "envoy": 2, "s3": 1}
