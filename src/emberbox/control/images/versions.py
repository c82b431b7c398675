"""What changes an image after its first build: new versions, their status, their end."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from emberbox.background import Background, until_written
from emberbox.control.access.quotas import Quotas
from emberbox.control.connectors.egress import EgressRules
from emberbox.control.images.builder import Builder
from emberbox.control.images.commands import SetVersionStatus, UpdateImage
from emberbox.control.images.engines import choose_engine, find_refusal
from emberbox.control.images.rules import check_configuration
from emberbox.control.images.service import DELETIONS_WITHIN_S, ImageFinder
from emberbox.control.requests.idempotency import find_made, note_made
from emberbox.machine.base import Engines, Snapshots
from emberbox.model.caller import Caller
from emberbox.model.errors import ServiceError, ValidationError
from emberbox.model.iam.actions import IMAGE_VERDICTS, VERSION_VERDICTS, ImageAction, VersionAction, refuse_image
from emberbox.model.iam.quotas import BUILDS, VERSIONS
from emberbox.model.images import VersionedImage, VersionName
from emberbox.model.records import Build, Image, ImageVersion
from emberbox.model.states import BuildState, ImageState, Verdict, VersionState, VersionStatus
from emberbox.store.client_tokens import ClientTokenStore
from emberbox.store.images import ImageStore
from emberbox.store.microvms import MicrovmStore


class ImageVersionService:
    """Makes versions of images, changes their status and deletes them.

    Args:
        finder: finds images and versions.
        store: images, versions, builds.
        microvms: asked whether a version is in use.
        client_tokens: earlier requests.
        builder: builds versions.
        egress: checks egress connectors.
        quotas: the limits of accounts.
        region: the region played.
        architectures: those that an image may ask for.
        engines: those that it may ask for.
        emulated: those of the architectures that are emulated.
    """

    def __init__(
        self,
        finder: ImageFinder,
        store: ImageStore,
        microvms: MicrovmStore,
        client_tokens: ClientTokenStore,
        builder: Builder,
        snapshots: Snapshots,
        egress: EgressRules,
        quotas: Quotas,
        region: str,
        architectures: Sequence[str],
        engines: Engines,
        emulated: Sequence[str] = (),
    ) -> None:
        self._finder = finder
        self._store = store
        self._microvms = microvms
        self._client_tokens = client_tokens
        self._builder = builder
        self._snapshots = snapshots
        self._egress = egress
        self._quotas = quotas
        self._region = region
        self._architectures = architectures
        self._engines = engines
        self._emulated = emulated
        self._background = Background()

    async def update(self, caller: Caller, asked: UpdateImage) -> VersionedImage:
        """Store a new version with a whole new configuration, and start to build it.

        Raises:
            ServiceError: it may not be made, or not so.
        """
        tags = self._finder.find(caller, asked.image).tags
        engine = choose_engine(tags, asked.configuration.architectures, self._emulated)
        refusal = await find_refusal(self._engines, engine)
        image = self._finder.find(caller, asked.image)
        earlier = find_made(self._client_tokens, caller, asked.client_request, partial(self._find_made, image))
        if earlier is not None:
            return earlier
        egress = self._egress.check(caller, asked.configuration.egress)
        request = check_configuration(
            asked.configuration, image.tags, self._region, egress, self._architectures, self._emulated
        )
        if refusal is not None:
            raise refusal
        _check_settled(image, ImageAction.UPDATE)
        now = datetime.now(UTC)
        versions, account_id = self._store.list_versions(image.id), caller.account_id
        self._quotas.check(account_id, VERSIONS, len(versions))
        self._quotas.check(account_id, BUILDS, self._store.count_unfinished_builds(account_id))
        name = next_version(versions)
        version = ImageVersion(image.id, name, VersionState.PENDING, VersionStatus.INACTIVE, request, now, now)
        build = Build(str(uuid.uuid4()), image.id, name, BuildState.PENDING, None, None, now)
        if not self._store.add_version(version, build, note_made(caller, asked.client_request, f"{image.id}/{name}")):
            raise _busy(self._store.find_by_id(image.id) or image, ImageAction.UPDATE)
        self._builder.start(image, version, build)
        return VersionedImage(self._store.find_by_id(image.id) or image, version)

    def _find_made(self, image: Image, made: str) -> VersionedImage | None:
        """Return the version that an earlier request made, unless it was one of an image of this name before."""
        image_id, _, name = made.rpartition("/")
        version = self._store.find_version(image.id, name)
        is_of_it = image_id in (image.id, "")  # servers of before noted the version alone
        found = None if version is None or not is_of_it else VersionedImage(image, version)
        return None if found is None or found.is_going else found

    async def set_status(self, caller: Caller, asked: SetVersionStatus) -> VersionedImage:
        """Allow or refuse new launches of a version, and return it.

        Raises:
            NotFoundError: there is none.
            ConflictError: something is under way with its image.
            ValidationError: it cannot be launched.
        """
        found = self._finder.find_version(caller, asked.version)
        _check_settled(found.image, ImageAction.SET_VERSION_STATUS)
        version, status = found.version, asked.status
        action = VersionAction.ACTIVATE if status is VersionStatus.ACTIVE else VersionAction.DEACTIVATE
        match VERSION_VERDICTS[version.state, action]:
            case Verdict.REFUSE:
                raise ValidationError(
                    f"MicroVM image version {version.version} is in state {version.state}; "
                    "only a SUCCESSFUL version can be made ACTIVE"
                )
            case Verdict.DO:
                self._store.set_version_status(found.image.id, version.version, status, datetime.now(UTC))
        return self._finder.find_version(caller, asked.version)

    async def delete(self, caller: Caller, name: VersionName) -> VersionedImage:
        """Begin to delete a version, and return it as it was; its image is UPDATING until it is done.

        That it is the last is told before anything else: AWS says so even while it is built.

        Raises:
            NotFoundError: there is none.
            ConflictError: something is under way with it or its image.
            ValidationError: it is the last, or microVMs of it exist.
        """
        found = self._finder.find_version(caller, name)
        image, version = found.image, found.version
        verdict = VERSION_VERDICTS[version.state, VersionAction.DELETE]
        if verdict is Verdict.IGNORE:
            return found
        if len(self._store.list_versions(image.id)) == 1:
            raise ValidationError("This is the last version. Please delete the entire image")
        _check_settled(image, ImageAction.DELETE_VERSION)
        if verdict is not Verdict.DO:
            raise _busy(image, ImageAction.DELETE_VERSION)
        if self._microvms.count_live(image.id, version.version):
            raise ValidationError("Cannot delete microvm image version with running microvms.")
        if not self._store.begin_to_delete_version(image.id, version.version, datetime.now(UTC)):
            raise _busy(image, ImageAction.DELETE_VERSION)
        self._remove_in_background(image, version.version)
        return found

    def finish_deletions(self) -> None:
        """Finish what an earlier server began to delete."""
        for image in self._store.list_in_state(ImageState.UPDATING):
            for version in self._store.list_versions(image.id):
                if version.state is VersionState.DELETING:
                    self._remove_in_background(image, version.version)

    def _remove_in_background(self, image: Image, version: str) -> None:
        self._background.start(self._remove(image, version), f"the deletion of {image.name} {version}")

    async def _remove(self, image: Image, version: str) -> None:
        removed = await self._snapshots.remove(image.id, version)
        await until_written(
            lambda: self._store.finish_deleting_version(image.id, version, datetime.now(UTC), removed=removed),
            f"the deletion of {image.name} {version}",
        )

    async def close(self) -> None:
        """Wait for deletions under way; what takes long is finished by the next server."""
        await self._background.close(DELETIONS_WITHIN_S)


def next_version(versions: list[ImageVersion]) -> str:
    """Return the number after the highest; failed versions have used theirs up."""
    return f"{max((int(float(version.version)) for version in versions), default=0) + 1}.0"


def _check_settled(image: Image, action: ImageAction) -> None:
    if IMAGE_VERDICTS[image.state, action] is not Verdict.DO:
        raise _busy(image, action)


def _busy(image: Image, action: ImageAction) -> ServiceError:
    return refuse_image(image.arn, image.state, action)
