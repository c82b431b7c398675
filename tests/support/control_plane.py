"""The whole control plane behind the real wire layer, in process: everything but microVMs and objects in S3.

Builds fail at the fetch, as from an empty S3; launches fail at the snapshot, as from a lost disk. Every row is real.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from emberbox.control.access.guard import Access, AccessSettings
from emberbox.control.assembly import Control, ControlSettings, Ground, Stores, make_control
from emberbox.control.endpoints.tokens import TokenKeys
from emberbox.control.logs.writer import LogWriter
from emberbox.control.microvms.recovery import Recovery
from emberbox.control.microvms.runners import Runners
from emberbox.control.requests.paging import PageTokens
from emberbox.control.server.info import ServerInfo
from emberbox.edges.aws.operations.collection import collect_handlers
from emberbox.edges.aws.operations.handler import Handler
from emberbox.edges.aws.server import create_api
from emberbox.host import native
from emberbox.host.figures import measure_host
from emberbox.host.space import DiskSpace
from emberbox.images.builders import HostBuilder
from emberbox.images.containers import Containers
from emberbox.images.managed import ManagedImages
from emberbox.images.pipeline import Limits, Pipeline
from emberbox.machine.connections import Connector
from emberbox.machine.guests import GuestHost
from emberbox.machine.local import (
    LocalCheckpoints,
    LocalEngines,
    LocalLeftovers,
    LocalMachine,
    LocalSnapshots,
    Places,
)
from emberbox.machine.pool import WarmPool
from emberbox.model.arns import image_arn, managed_connector_arn, new_microvm_id
from emberbox.model.clock import Instant
from emberbox.model.endpoints import EndpointNames
from emberbox.model.iam.access import Credential
from emberbox.model.image_requests import ImageRequest
from emberbox.model.images import takeable_architectures
from emberbox.model.launch_requests import Ingress, LaunchRequest
from emberbox.model.records import Build, Image, ImageVersion, Microvm
from emberbox.model.states import BuildState, ImageState, MicrovmState, VersionState, VersionStatus
from emberbox.spec.models import every_operation_name
from emberbox.store.database import Database
from emberbox.store.schema import log_metadata, metadata
from emberbox.vmm.engine import Engine
from emberbox.vmm.qemu import QemuDriver

ROLE = "arn:aws:iam::123456789012:role/any"
NETWORKS = """
[subnet-office]
cidrs = ["192.168.10.0/24", "192.168.0.0/16"]
dns = "192.168.10.53"
[subnet-lab]
cidrs = ["172.16.5.0/24"]
[sg-web]
allow = ["tcp 192.168.10.0/24 443", "icmp 0.0.0.0/0"]
[sg-none]
allow = []
"""


class EmptyS3:
    """What an S3 without objects answers."""

    @property
    def get_object(self) -> Any:
        def get(**_: Any) -> Mapping[str, Any]:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")

        return get


def _nothing_to_revoke(_microvm_id: str) -> None:
    pass


async def _no_requests(microvm_id: str) -> None:
    """There is no gateway, and so no request to wait for."""


class ControlPlane:
    """All services over databases in one directory.

    Args:
        directory: the state directory.
        credential: the first key, of the operator.
        region: the region played.
        access: what of AccessSettings is not as in most tests: no rates, roles that nobody needs to define.
    """

    architectures = takeable_architectures(others_too=True)
    """Those that an image may ask for."""

    emulated: tuple[str, ...] = ()
    """Those of them that are emulated."""

    def __init__(self, directory: Path, credential: Credential, region: str, **access: Any) -> None:
        self.directory, self.credential, self.region = directory, credential, region
        for name in ("microvms", "builds", "images", "secrets"):
            (directory / name).mkdir(exist_ok=True)
        (directory / "networks.toml").write_text(NETWORKS)
        self.database = Database(f"sqlite:///{directory}/emberbox.db", metadata)
        self.log_database = Database(f"sqlite:///{directory}/logs.db", log_metadata, durable=False)
        stores = self._stores = Stores.over(self.database, self.log_database)
        self.images, self.microvms, self.connectors = stores.images, stores.microvms, stores.connectors
        self.logs, self._log_writer = stores.logs, LogWriter(stores.logs)
        chosen = {
            "home": directory, "region": region, "operator_account": credential.account_id, "strict_roles": False,
            "rate_limits": False, "audit_file_bytes": 1 << 20, "audit_files": 4,
        }  # fmt: skip
        pages = PageTokens(directory / "secrets/pages.key")
        self.access = Access(
            AccessSettings(**chosen | access), database=self.database, page_tokens=pages,
            first_key=lambda: self.credential, operations=every_operation_name(),
        )  # fmt: skip
        control = self.control = self._make_control(pages)
        self.egress, self.runners, self.launcher = control.egress, control.runners, control.launcher
        self.image_service, self.version_service, self._builder = control.images, control.versions, control.builder
        self.microvm_service, self.connector_service = control.microvms, control.connectors

    def _make_control(self, pages: PageTokens) -> Control:
        directory = self.directory
        space, runners = DiskSpace(directory), Runners()
        driver = QemuDriver(Engine("QEMU", "7.2.22", "tcg"), native.memory_shim_path(), 1)
        guests = GuestHost(driver, Connector(None), None, None, space)
        containers, places = Containers(directory / "containers"), Places(directory)
        builder = HostBuilder(containers, ManagedImages(containers, directory / "base"), None)  # type: ignore[arg-type]
        pipeline = Pipeline(
            builder, guests, None, EmptyS3(), Limits(1, 1, 1), space, places,  # type: ignore[arg-type]
            s3_has_accounts=False,
        )  # fmt: skip
        pool = WarmPool(guests, directory, 0, places.load_snapshot, self.images.is_launchable)
        self.machine, self.engines = LocalMachine(guests, pool, places, {}), LocalEngines(guests.engines)
        ground = Ground(
            stores=self._stores, access=self.access, page_tokens=pages,
            token_keys=TokenKeys(directory / "secrets/tokens.json"), log_writer=self._log_writer,
            machine=self.machine, checkpoints=LocalCheckpoints(guests, places),
            snapshots=LocalSnapshots(places), pool=pool, engines=self.engines, builds=pipeline, room=space,
            measure_host=lambda: measure_host(space), runners=runners, revoke=_nothing_to_revoke, drain=_no_requests,
        )  # fmt: skip
        settings = ControlSettings(
            home=directory, region=self.region, managed_since=datetime.now(UTC), concurrent_builds=2,
            event_retention_s=3600.0, architectures=self.architectures, emulated=self.emulated,
        )  # fmt: skip
        return make_control(settings, ground)

    async def open(self) -> ControlPlane:
        """Begin, with nothing left by an earlier server."""
        self.control.launcher.recover(Recovery(LocalLeftovers(self.directory, Places(self.directory)), []))
        return self

    def handlers(self) -> dict[str, dict[str, Handler]]:
        """Return every handler, as the server has them."""
        names = EndpointNames(self.region, "localhost")
        return collect_handlers(self.control, ServerInfo(self.region, "tcg", "user", self.engines.report), names)

    def app(self) -> Any:
        """Return the API."""
        return create_api(self.handlers(), self.access.find_credential, self.region, guard=self.access)

    async def settle(self) -> None:
        """Wait until what runs in the background has ended."""
        me = asyncio.current_task()
        while others := [task for task in asyncio.all_tasks() if task is not me]:
            await asyncio.wait(others, timeout=0.05)

    async def close(self) -> None:
        """Stop everything."""
        for service in (self.runners, self._builder, self.image_service, self.version_service):
            await service.close()
        await self.connector_service.close()
        self.control.timers.close()
        await self.access.trail.close()
        await self._log_writer.close()
        self.database.close()
        self.log_database.close()

    def add_image(self, name: str, versions: int = 1, account: str | None = None, **tags: str) -> Image:
        """Store an image as if its builds had been successful."""
        now = datetime.now(UTC)
        account, image_id = account or self.credential.account_id, str(uuid.uuid4())
        arn = image_arn(self.region, account, name)
        image = Image(image_id, account, name, arn, ImageState.CREATING, None, None, tags, now, now)
        request = ImageRequest(
            region=self.region,
            base="debian12-1",
            base_version="1.0",
            build_role=ROLE,
            artifact_uri="s3://code/key",
            memory_mib=512,
            egress=(managed_connector_arn(self.region, "INTERNET_EGRESS"),),
        )
        for number in range(1, versions + 1):
            version = f"{number}.0"
            row = ImageVersion(image_id, version, VersionState.PENDING, VersionStatus.INACTIVE, request, now, now)
            build = Build(str(uuid.uuid4()), image_id, version, BuildState.PENDING, None, None, now)
            assert (
                self.images.add(image, row, build, None) if number == 1 else self.images.add_version(row, build, None)
            )
            self.images.begin_build(build, now)
            self.images.finish_build(build, now)
        found = self.images.find(arn)
        assert found is not None
        return found

    def add_microvm(self, image: Image, state: MicrovmState = MicrovmState.TERMINATED, **more: Any) -> Microvm:
        """Store a microVM as it would be in a state."""
        now = datetime.now(UTC)
        egress = (managed_connector_arn(self.region, "INTERNET_EGRESS"),)
        request = LaunchRequest(region=self.region, ingress=(Ingress.HTTP,), egress=egress)
        microvm = Microvm(
            id=new_microvm_id(), account_id=image.account_id, endpoint_label=str(uuid.uuid4()), image_id=image.id,
            image_arn=image.arn, image_version="1.0", state=state, state_reason=None, request=request, incarnation=1,
            started_at=now, terminated_at=now if state is MicrovmState.TERMINATED else None, started=Instant.now(),
        )  # fmt: skip
        microvm = replace(microvm, **more)
        assert self.microvms.add([microvm], None)
        return microvm
