"""Images, versions and builds: made, told of, deleted."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from emberbox.background import Background, until_written
from emberbox.control.access.quotas import Quotas
from emberbox.control.connectors.egress import EgressRules
from emberbox.control.images.builder import Builder
from emberbox.control.images.commands import CreateImage, GetBuild, ListBuilds, ListImages, ListVersions
from emberbox.control.images.engines import choose_engine, find_refusal
from emberbox.control.images.rules import check_configuration
from emberbox.control.requests.idempotency import find_made, note_made
from emberbox.control.requests.paging import Page, PageRequest, PageTokens, cut_page
from emberbox.machine.base import Engines, Snapshots
from emberbox.model.arns import image_arn
from emberbox.model.caller import Caller
from emberbox.model.errors import NotFoundError, ValidationError
from emberbox.model.iam.actions import IMAGE_VERDICTS, ImageAction, refuse_image
from emberbox.model.iam.quotas import BUILDS, IMAGES
from emberbox.model.image_requests import ImageRequest
from emberbox.model.images import (
    MANAGED_IMAGES,
    MANAGED_VERSION,
    PROCESSOR,
    ImageBuild,
    ImageName,
    ManagedImage,
    Processor,
    VersionedImage,
    VersionName,
    processor_of,
)
from emberbox.model.records import Build, Image, ImageVersion
from emberbox.model.states import BuildState, ImageState, Verdict, VersionState, VersionStatus
from emberbox.store.client_tokens import ClientTokenStore
from emberbox.store.images import ImageStore
from emberbox.store.microvms import MicrovmStore

log = logging.getLogger(__name__)

FIRST_VERSION: Final = "1.0"
DELETIONS_WITHIN_S: Final = 10.0


class ImageFinder:
    """Finds what a caller names, in the caller's own account.

    Args:
        store: images and versions.
        region: the region played.
    """

    def __init__(self, store: ImageStore, region: str) -> None:
        self._store = store
        self._region = region

    def find(self, caller: Caller, name: ImageName) -> Image:
        """Return the image that is named.

        Raises:
            NotFoundError: there is no such image.
        """
        image = self._find(caller, name)
        if image is None:
            raise NotFoundError(f"MicroVMImage not found for MicroVMImageID: {name.named}")
        return image

    def find_version(self, caller: Caller, name: VersionName) -> VersionedImage:
        """Return the version that is named, with its image.

        Raises:
            NotFoundError: there is no such version.
        """
        image = self._find(caller, name.image)
        version = None if image is None else self._store.find_version(image.id, name.version)
        if image is None or version is None:
            raise NotFoundError(f"MicroVMImage not found for MicroVMImage: {name.image.named}, Version: {name.version}")
        return VersionedImage(image, version)

    def _find(self, caller: Caller, name: ImageName) -> Image | None:
        return self._store.find_named(caller.account_id, name.name, self._region)


class ImageService:
    """Makes, tells of and deletes images, and tells of their versions and builds.

    Args:
        finder: finds images and versions.
        store: images, versions, builds.
        microvms: asked whether an image is in use.
        client_tokens: earlier requests.
        builder: builds versions.
        egress: checks egress connectors.
        quotas: the limits of accounts.
        page_tokens: for the lists.
        region: the region played.
        snapshots: what is deleted with an image.
        managed_since: when the managed images came to be here.
        architectures: those that an image may ask for.
        engines: those that it may ask for.
        emulated: those of the architectures that are emulated.
    """

    def __init__(
        self, finder: ImageFinder, store: ImageStore, microvms: MicrovmStore, client_tokens: ClientTokenStore,
        builder: Builder, egress: EgressRules, quotas: Quotas, page_tokens: PageTokens, region: str,
        snapshots: Snapshots, managed_since: datetime, architectures: Sequence[str], engines: Engines,
        emulated: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._finder = finder
        self._store = store
        self._microvms = microvms
        self._client_tokens = client_tokens
        self._builder = builder
        self._egress = egress
        self._page_tokens = page_tokens
        self._quotas = quotas
        self._region = region
        self._snapshots = snapshots
        self._managed_since = managed_since
        self._architectures = architectures
        self._engines = engines
        self._emulated = emulated
        self._background = Background()

    async def create(self, caller: Caller, asked: CreateImage) -> VersionedImage:
        """Store an image with its first version, and start to build it.

        Raises:
            ServiceError: it may not be made, or not so.
        """
        engine = choose_engine(asked.tags, asked.configuration.architectures, self._emulated)
        refusal = await find_refusal(self._engines, engine)
        earlier = find_made(self._client_tokens, caller, asked.client_request, self._find_created)
        if earlier is not None:
            return earlier
        egress = self._egress.check(caller, asked.configuration.egress)
        request = check_configuration(
            asked.configuration, asked.tags, self._region, egress, self._architectures, self._emulated
        )
        if refusal is not None:
            raise refusal
        account_id = caller.account_id
        self._quotas.check(account_id, IMAGES, self._store.count(account_id))
        self._quotas.check(account_id, BUILDS, self._store.count_unfinished_builds(account_id))
        image, version, build = self._new_records(caller, asked, request)
        if not self._store.add(image, version, build, note_made(caller, asked.client_request, image.id)):
            raise ValidationError(f"A MicroVM image with the name '{image.name}' already exists in this account")
        self._builder.start(image, version, build)
        return VersionedImage(image, version)

    def _new_records(
        self, caller: Caller, asked: CreateImage, request: ImageRequest
    ) -> tuple[Image, ImageVersion, Build]:
        now = datetime.now(UTC)
        image = Image(
            id=asked.image_id or str(uuid.uuid4()),
            account_id=caller.account_id,
            name=asked.name,
            arn=image_arn(self._region, caller.account_id, asked.name),
            state=ImageState.CREATING,
            latest_active_version=None,
            latest_failed_version=None,
            tags=asked.tags,
            created_at=now,
            updated_at=now,
        )
        version = ImageVersion(image.id, FIRST_VERSION, VersionState.PENDING, VersionStatus.INACTIVE, request, now, now)
        build = Build(str(uuid.uuid4()), image.id, FIRST_VERSION, BuildState.PENDING, None, None, now)
        return image, version, build

    def _find_created(self, image_id: str) -> VersionedImage | None:
        image = self._store.find_by_id(image_id)
        version = self._store.find_version(image_id, FIRST_VERSION)
        found = None if image is None or version is None else VersionedImage(image, version)
        return None if found is None or found.is_going else found

    def get(self, caller: Caller, name: ImageName) -> Image:
        """Return an image.

        Raises:
            NotFoundError: there is none.
        """
        return self._finder.find(caller, name)

    def list_images(self, caller: Caller, asked: ListImages) -> Page[Image]:
        """Return images, newest first; what is asked for by name is looked for on the page alone, as on AWS.

        Raises:
            ValidationError: the page's token is not one of this list's.
        """
        limit, after = asked.page.limit, self._page_tokens.open_moment("ListMicrovmImages", asked.page.token)
        found = self._store.list_page(caller.account_id, limit + 1, after)
        page, token = found[:limit], None
        if len(found) > limit:
            token = self._page_tokens.seal("ListMicrovmImages", [page[-1].created_at.timestamp(), page[-1].id])
        return Page([image for image in page if asked.part in image.name], token)

    async def delete(self, caller: Caller, name: ImageName) -> Image:
        """Begin to delete an image, and return it as it was; the files go in the background.

        Raises:
            NotFoundError: there is none.
            ValidationError: something is under way with it, or microVMs of it exist.
        """
        image = self._finder.find(caller, name)
        verdict = IMAGE_VERDICTS[image.state, ImageAction.DELETE]
        if verdict is Verdict.IGNORE:
            return image
        if verdict is not Verdict.DO:
            raise refuse_image(image.arn, image.state, ImageAction.DELETE)
        if self._microvms.count_live(image.id):
            raise ValidationError("Cannot delete microvm image with running microvms.")
        if not self._store.change_state(image.id, ImageState.DELETING, datetime.now(UTC)):
            raise refuse_image(image.arn, image.state, ImageAction.DELETE)
        self._remove_in_background(image)
        return image

    def finish_deletions(self) -> None:
        """Finish what an earlier server began to delete."""
        for image in self._store.list_in_state(ImageState.DELETING):
            self._remove_in_background(image)

    def _remove_in_background(self, image: Image) -> None:
        self._background.start(self._remove(image), f"the deletion of {image.name}")

    async def _remove(self, image: Image) -> None:
        removed = await self._snapshots.remove(image.id)

        def settle() -> None:
            if removed:
                self._store.remove(image.id)
            else:
                self._store.change_state(image.id, ImageState.DELETE_FAILED, datetime.now(UTC))

        await until_written(settle, f"the deletion of {image.name}")

    async def close(self) -> None:
        """Wait for deletions under way; what takes long is finished by the next server."""
        await self._background.close(DELETIONS_WITHIN_S)

    def get_version(self, caller: Caller, name: VersionName) -> VersionedImage:
        """Return a version.

        Raises:
            NotFoundError: there is none.
        """
        return self._finder.find_version(caller, name)

    def list_versions(self, caller: Caller, asked: ListVersions) -> Page[VersionedImage]:
        """Return versions, newest first.

        Raises:
            NotFoundError: there is no such image.
            ValidationError: the page's token is not one of this list's.
        """
        image = self._finder.find(caller, asked.image)
        versions = [VersionedImage(image, version) for version in self._store.list_versions(image.id)]
        return cut_page(self._page_tokens, "ListMicrovmImageVersions", versions, asked.page)

    def get_build(self, caller: Caller, asked: GetBuild) -> ImageBuild:
        """Return a build.

        Raises:
            NotFoundError: there is no such version, or no such build of it.
        """
        for found in self._list_builds(caller, asked.version):
            if found.build.id == asked.build_id:
                return found
        raise NotFoundError(f"MicroVMImage build not found: {asked.build_id}")

    def list_builds(self, caller: Caller, asked: ListBuilds) -> Page[ImageBuild]:
        """Return the builds of a version.

        Raises:
            NotFoundError: there is no such version.
            ValidationError: the page's token is not one of this list's.
        """
        builds = self._list_builds(caller, asked.version)
        wanted = (asked.architecture, asked.chipset, asked.generation)
        builds = [found for found in builds if _fits(found.processor, wanted)]
        return cut_page(self._page_tokens, "ListMicrovmImageBuilds", builds, asked.page)

    def _list_builds(self, caller: Caller, name: VersionName) -> list[ImageBuild]:
        found = self._finder.find_version(caller, name)
        builds = self._store.list_builds(found.image.id, found.version.version)
        processor = processor_of(found.version.request.engine)
        return [ImageBuild(found.image, build, processor) for build in builds]

    def list_managed(self, asked: PageRequest) -> Page[ManagedImage]:
        """Return the managed images.

        Raises:
            ValidationError: the page's token is not one of this list's.
        """
        return cut_page(self._page_tokens, "ListManagedMicrovmImages", self._managed(), asked)

    def list_managed_versions(self, asked: ListVersions) -> Page[ManagedImage]:
        """Return the versions of a managed image: each has one.

        Raises:
            NotFoundError: there is no such image.
            ValidationError: the page's token is not one of this list's.
        """
        found = [image for image in self._managed() if image.name == asked.image.name]
        if not found:
            raise NotFoundError(f"MicroVMImage not found for MicroVMImageID: {asked.image.named}")
        return cut_page(self._page_tokens, "ListManagedMicrovmImageVersions", found, asked.page)

    def _managed(self) -> list[ManagedImage]:
        return [
            ManagedImage(name, MANAGED_VERSION, self._managed_since, (PROCESSOR.architecture, *self._emulated))
            for name in MANAGED_IMAGES
        ]


def _fits(processor: Processor, wanted: tuple[str | None, str | None, str | None]) -> bool:
    there_is = (processor.architecture, processor.chipset, processor.generation)
    return all(one in (None, other) for one, other in zip(wanted, there_is, strict=True))
