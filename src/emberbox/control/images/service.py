"""The operations on images, versions and builds."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from emberbox.background import Background, in_thread, until_written
from emberbox.control.access.quotas import Quotas
from emberbox.control.connectors.egress import EgressRules
from emberbox.control.images.builder import Builder
from emberbox.control.images.rules import ARCHITECTURE, check_image_request
from emberbox.control.requests.idempotency import find_earlier, new_token
from emberbox.control.requests.paging import DEFAULT_PAGE, PageTokens, slice_page
from emberbox.images.managed import MANAGED_IMAGES, MANAGED_VERSION
from emberbox.model.arns import check_image_arn, image_arn, managed_image_arn
from emberbox.model.caller import Caller, Handler
from emberbox.model.errors import ConflictError, NotFoundError, ValidationError
from emberbox.model.iam.actions import IMAGE_VERDICTS, ImageAction
from emberbox.model.iam.quotas import BUILDS, IMAGES
from emberbox.model.records import Build, Image, ImageVersion
from emberbox.model.states import BuildState, ImageState, Verdict, VersionState, VersionStatus
from emberbox.store.client_tokens import ClientTokenStore
from emberbox.store.images import ImageStore
from emberbox.store.microvms import MicrovmStore

log = logging.getLogger(__name__)

FIRST_VERSION: Final = "1.0"
DELETIONS_WITHIN_S: Final = 10.0
CHIPSET, CHIPSET_GENERATION = "INTEL", "1"


class ImageFinder:
    """Finds what a caller names, in the caller's own account.

    Args:
        store: images and versions.
        region: the region played.
    """

    def __init__(self, store: ImageStore, region: str) -> None:
        self._store = store
        self._region = region

    def find(self, caller: Caller, parameters: dict[str, Any]) -> Image:
        """Return the image that `imageIdentifier` names.

        Raises:
            ValidationError, AccessDeniedError: it is no ARN, or another account's.
            NotFoundError: there is no such image.
        """
        return self.find_by_arn(caller, parameters["imageIdentifier"])

    def find_by_arn(self, caller: Caller, text: str) -> Image:
        """Return the image of an ARN; raises what `find` raises."""
        arn = check_image_arn(text, self._region, caller.account_id)
        image = self._store.find(arn)
        if image is None:
            raise NotFoundError(f"MicroVMImage not found for MicroVMImageID: {arn}")
        return image

    def find_version(self, caller: Caller, parameters: dict[str, Any]) -> tuple[Image, ImageVersion]:
        """Return the image and the version that `imageIdentifier` and `imageVersion` name.

        Raises:
            ValidationError, AccessDeniedError: the identifier is no ARN, or another account's.
            NotFoundError: there is no such version.
        """
        arn = check_image_arn(parameters["imageIdentifier"], self._region, caller.account_id)
        image = self._store.find(arn)
        name = parameters["imageVersion"]
        version = None if image is None else self._store.find_version(image.id, name)
        if image is None or version is None:
            raise NotFoundError(f"MicroVMImage not found for MicroVMImage: {arn}, Version: {name}")
        return image, version


class ImageService:
    """Answers the image operations.

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
        home: the state directory.
        managed_since: when the managed images came to be here.
    """

    def __init__(
        self, finder: ImageFinder, store: ImageStore, microvms: MicrovmStore, client_tokens: ClientTokenStore,
        builder: Builder, egress: EgressRules, quotas: Quotas, page_tokens: PageTokens, region: str, home: Path,
        managed_since: datetime,
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
        self._home = home
        self._managed_since = managed_since
        self._background = Background()

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the service model."""
        return {
            "CreateMicrovmImage": self.create,
            "GetMicrovmImage": self.get,
            "ListMicrovmImages": self.list_images,
            "DeleteMicrovmImage": self.delete,
            "GetMicrovmImageVersion": self.get_version,
            "ListMicrovmImageVersions": self.list_versions,
            "GetMicrovmImageBuild": self.get_build,
            "ListMicrovmImageBuilds": self.list_builds,
            "ListManagedMicrovmImages": self.list_managed,
            "ListManagedMicrovmImageVersions": self.list_managed_versions,
        }

    async def create(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """CreateMicrovmImage: store the image and start its first build."""
        earlier = find_earlier(self._client_tokens, caller, "CreateMicrovmImage", parameters)
        if earlier is not None:
            return self._show_created(earlier)
        egress = self._egress.check(caller, parameters.get("egressNetworkConnectors"))
        request = check_image_request(parameters, self._region, egress)
        account_id = caller.account_id
        self._quotas.check(account_id, IMAGES, self._store.count(account_id))
        self._quotas.check(account_id, BUILDS, self._store.count_unfinished_builds(account_id))
        image, version, build = self._new_records(caller, parameters, request)
        token = new_token(caller, "CreateMicrovmImage", parameters, image.id)
        if not self._store.add(image, version, build, token):
            raise ValidationError(f"A MicroVM image with the name '{image.name}' already exists in this account")
        self._builder.start(image, version, build)
        return self._show_created(image.id)

    def _new_records(
        self, caller: Caller, parameters: dict[str, Any], request: dict[str, Any]
    ) -> tuple[Image, ImageVersion, Build]:
        now = datetime.now(UTC)
        name = parameters["name"]
        image = Image(
            id=str(uuid.uuid4()),
            account_id=caller.account_id,
            name=name,
            arn=image_arn(self._region, caller.account_id, name),
            state=ImageState.CREATING,
            latest_active_version=None,
            latest_failed_version=None,
            tags=parameters.get("tags") or {},
            created_at=now,
            updated_at=now,
        )
        version = ImageVersion(image.id, FIRST_VERSION, VersionState.PENDING, VersionStatus.INACTIVE, request, now, now)
        build = Build(str(uuid.uuid4()), image.id, FIRST_VERSION, BuildState.PENDING, None, None, now)
        return image, version, build

    def _show_created(self, image_id: str) -> Mapping[str, Any]:
        image = self._store.find_by_id(image_id)
        version = self._store.find_version(image_id, FIRST_VERSION)
        if image is None or version is None:
            raise ConflictError("The clientToken belongs to an image that has been deleted; use a new one.")
        return {
            **show_image(image),
            **version.request,
            "imageVersion": FIRST_VERSION,
            "tags": image.tags or None,
        }

    async def get(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """GetMicrovmImage."""
        return {**show_image(image := self._finder.find(caller, parameters)), "tags": image.tags}

    async def list_images(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListMicrovmImages: the name filter is applied after paging, as on AWS."""
        limit = parameters.get("maxResults", DEFAULT_PAGE)
        after = self._page_tokens.open_moment("ListMicrovmImages", parameters.get("nextToken"))
        found = self._store.list_page(caller.account_id, limit + 1, after)
        page, wanted = found[:limit], parameters.get("nameFilter", "")
        token = None
        if len(found) > limit:
            token = self._page_tokens.seal("ListMicrovmImages", [page[-1].created_at.timestamp(), page[-1].id])
        items = [show_image(image, brief=True) for image in page if wanted in image.name]
        return {"items": items, "nextToken": token}

    async def delete(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DeleteMicrovmImage: refused while microVMs of it exist; the files go in the background."""
        image = self._finder.find(caller, parameters)
        answer = {"imageIdentifier": image.arn, "state": ImageState.DELETING}
        match IMAGE_VERDICTS[image.state, ImageAction.DELETE]:
            case Verdict.IGNORE:
                return answer
            case Verdict.CONFLICT:
                raise ConflictError(f"MicroVM Image is already in state: {image.state}")
            case Verdict.REFUSE:
                raise ValidationError(f"Cannot delete MicroVM image in its current state: {image.state}")
        if self._microvms.count_live(image.id):
            raise ValidationError("Cannot delete microvm image with running microvms.")
        if not self._store.change_state(image.id, ImageState.DELETING, datetime.now(UTC)):
            raise ConflictError(f"MicroVM Image is already in state: {image.state}")
        self._remove_in_background(image)
        return answer

    def finish_deletions(self) -> None:
        """Finish what an earlier server began to delete."""
        for image in self._store.list_in_state(ImageState.DELETING):
            self._remove_in_background(image)

    def _remove_in_background(self, image: Image) -> None:
        self._background.start(self._remove(image), f"the deletion of {image.name}")

    async def _remove(self, image: Image) -> None:
        removed = await in_thread(remove_tree, self._home / "images" / image.id)

        def settle() -> None:
            if removed:
                self._store.remove(image.id)
            else:
                self._store.change_state(image.id, ImageState.DELETE_FAILED, datetime.now(UTC))

        await until_written(settle, f"the deletion of {image.name}")

    async def close(self) -> None:
        """Wait for deletions under way; what takes long is finished by the next server."""
        await self._background.close(DELETIONS_WITHIN_S)

    async def get_version(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """GetMicrovmImageVersion."""
        image, version = self._finder.find_version(caller, parameters)
        return show_version(image, version)

    async def list_versions(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListMicrovmImageVersions, newest first."""
        image = self._finder.find(caller, parameters)
        versions = self._store.list_versions(image.id)
        page, token = slice_page(self._page_tokens, "ListMicrovmImageVersions", versions, parameters)
        return {"items": [show_version(image, version) for version in page], "nextToken": token}

    async def get_build(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """GetMicrovmImageBuild."""
        image, version = self._finder.find_version(caller, parameters)
        for build in self._store.list_builds(image.id, version.version):
            if build.id == parameters["buildId"]:
                return {**show_build(image, build), "snapshotBuild": build.sizes}
        raise NotFoundError(f"MicroVMImage build not found: {parameters['buildId']}")

    async def list_builds(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListMicrovmImageBuilds."""
        image, version = self._finder.find_version(caller, parameters)
        shown = [show_build(image, build) for build in self._store.list_builds(image.id, version.version)]
        filters = ("architecture", "chipset", "chipsetGeneration")
        wanted = [b for b in shown if all(b[f] == parameters.get(f, b[f]) for f in filters)]
        page, token = slice_page(self._page_tokens, "ListMicrovmImageBuilds", wanted, parameters)
        return {"items": page, "nextToken": token}

    async def list_managed(self, _caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListManagedMicrovmImages."""
        arns = [managed_image_arn(self._region, name) for name in MANAGED_IMAGES]
        page, token = slice_page(self._page_tokens, "ListManagedMicrovmImages", arns, parameters)
        since = self._managed_since
        items = [{"imageArn": arn, "createdAt": since, "updatedAt": since} for arn in page]
        return {"items": items, "nextToken": token}

    async def list_managed_versions(
        self,
        _caller: Caller,
        parameters: dict[str, Any],
    ) -> Mapping[str, Any]:
        """ListManagedMicrovmImageVersions."""
        arn = parameters["imageIdentifier"]
        if arn not in {managed_image_arn(self._region, name) for name in MANAGED_IMAGES}:
            raise NotFoundError(f"MicroVMImage not found for MicroVMImageID: {arn}")
        item = {
            "imageArn": arn,
            "imageVersion": MANAGED_VERSION,
            "status": "AVAILABLE",
            "supportedCpuConfigurations": [{"architecture": ARCHITECTURE}],
            "createdAt": self._managed_since,
            "updatedAt": self._managed_since,
        }
        page, token = slice_page(self._page_tokens, "ListManagedMicrovmImageVersions", [item], parameters)
        return {"items": page, "nextToken": token}


def remove_tree(directory: Path) -> bool:
    """Remove a directory with all it holds; False, and a line in the log, where that cannot be done."""
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        log.error("%s cannot be removed: %s; delete the image or version again once it can be", directory, error)
        return False
    return True


def show_image(image: Image, *, brief: bool = False) -> dict[str, Any]:
    """Return an image as the API shows it; list items lack `updatedAt`."""
    shown = {
        "id": image.id,
        "imageArn": image.arn,
        "name": image.name,
        "state": image.state,
        "latestActiveImageVersion": image.latest_active_version,
        "latestFailedImageVersion": image.latest_failed_version,
        "createdAt": image.created_at,
    }
    return shown if brief else {**shown, "updatedAt": image.updated_at}


def show_version(image: Image, version: ImageVersion) -> dict[str, Any]:
    """Return a version as the API shows it: the whole request, and its state."""
    return {
        **version.request,
        "imageArn": image.arn,
        "imageVersion": version.version,
        "state": version.state,
        "status": version.status,
        "createdAt": version.created_at,
        "updatedAt": version.updated_at,
        "tags": image.tags or None,
        "versionStateTimeBucket": f"{version.state}#{version.updated_at:%y%m%d%H}",
    }


def show_build(image: Image, build: Build) -> dict[str, Any]:
    """Return a build as a list shows it."""
    return {
        "imageArn": image.arn,
        "imageVersion": build.version,
        "buildId": build.id,
        "buildState": build.state,
        "architecture": ARCHITECTURE,
        "chipset": CHIPSET,
        "chipsetGeneration": CHIPSET_GENERATION,
        "stateReason": build.state_reason,
        "createdAt": build.created_at,
    }
