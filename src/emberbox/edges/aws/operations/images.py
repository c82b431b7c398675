"""The operations on images, their versions and their builds."""

from __future__ import annotations

import re
from typing import Final

from emberbox.control.images.commands import (
    CreateImage,
    GetBuild,
    ListBuilds,
    ListImages,
    ListVersions,
    SetVersionStatus,
    UpdateImage,
)
from emberbox.control.images.service import ImageService
from emberbox.control.images.versions import ImageVersionService
from emberbox.edges.aws.operations.client_tokens import read_client_request
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.image_configurations import read_configuration, show_request
from emberbox.edges.aws.operations.pages import read_page, show_page
from emberbox.model.arns import check_image_arn, image_name, managed_image_arn, managed_image_name
from emberbox.model.caller import Caller
from emberbox.model.images import ImageBuild, ImageName, ManagedImage, VersionedImage, VersionName
from emberbox.model.records import Image
from emberbox.model.states import ImageState, VersionState, VersionStatus

_WHOLE_NUMBER: Final = re.compile(r"0|[1-9][0-9]*")


def handlers(images: ImageService, versions: ImageVersionService, region: str) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model.

    Args:
        images: answers.
        versions: answers what changes an image.
        region: the region played, for ARNs.
    """
    return (
        _image_handlers(images, versions, region)
        | _version_handlers(images, versions, region)
        | _build_handlers(images, region)
        | _managed_handlers(images, region)
    )


def _image_handlers(images: ImageService, versions: ImageVersionService, region: str) -> dict[str, Handler]:
    async def create(caller: Caller, parameters: Parameters) -> Members:
        created = await images.create(caller, read_create(parameters, region))
        return {**show_changed(created), "tags": created.image.tags or None}

    async def get(caller: Caller, parameters: Parameters) -> Members:
        image = images.get(caller, read_image(caller, parameters, region))
        return {**show_image(image), "tags": image.tags}

    async def list_images(caller: Caller, parameters: Parameters) -> Members:
        asked = ListImages(read_page(parameters), parameters.get("nameFilter", ""))
        return show_page(images.list_images(caller, asked), show_brief)

    async def update(caller: Caller, parameters: Parameters) -> Members:
        return show_changed(await versions.update(caller, read_update(caller, parameters, region)))

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        deleted = await images.delete(caller, read_image(caller, parameters, region))
        return {"imageIdentifier": deleted.arn, "state": ImageState.DELETING}

    return {
        "CreateMicrovmImage": create,
        "GetMicrovmImage": get,
        "ListMicrovmImages": list_images,
        "UpdateMicrovmImage": update,
        "DeleteMicrovmImage": delete,
    }


def _version_handlers(images: ImageService, versions: ImageVersionService, region: str) -> dict[str, Handler]:
    async def get(caller: Caller, parameters: Parameters) -> Members:
        return show_version(images.get_version(caller, read_version(caller, parameters, region)))

    async def list_versions(caller: Caller, parameters: Parameters) -> Members:
        asked = ListVersions(read_image(caller, parameters, region), read_page(parameters))
        return show_page(images.list_versions(caller, asked), show_version)

    async def update(caller: Caller, parameters: Parameters) -> Members:
        asked = SetVersionStatus(read_version(caller, parameters, region), VersionStatus(parameters["status"]))
        return show_version(await versions.set_status(caller, asked))

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        deleted = await versions.delete(caller, read_version(caller, parameters, region))
        return {
            "imageIdentifier": deleted.image.arn,
            "imageVersion": deleted.version.version,
            "state": VersionState.DELETING,
        }

    return {
        "GetMicrovmImageVersion": get,
        "ListMicrovmImageVersions": list_versions,
        "UpdateMicrovmImageVersion": update,
        "DeleteMicrovmImageVersion": delete,
    }


def _build_handlers(images: ImageService, region: str) -> dict[str, Handler]:
    async def get(caller: Caller, parameters: Parameters) -> Members:
        asked = GetBuild(read_version(caller, parameters, region), parameters["buildId"])
        return show_whole_build(images.get_build(caller, asked))

    async def list_builds(caller: Caller, parameters: Parameters) -> Members:
        return show_page(images.list_builds(caller, read_list_builds(caller, parameters, region)), show_build)

    return {"GetMicrovmImageBuild": get, "ListMicrovmImageBuilds": list_builds}


def _managed_handlers(images: ImageService, region: str) -> dict[str, Handler]:
    def show(image: ManagedImage) -> Members:
        return show_managed(image, region)

    def show_version_of(image: ManagedImage) -> Members:
        return show_managed_version(image, region)

    async def list_managed(_caller: Caller, parameters: Parameters) -> Members:
        return show_page(images.list_managed(read_page(parameters)), show)

    async def list_versions(_caller: Caller, parameters: Parameters) -> Members:
        asked = ListVersions(read_managed_image(parameters["imageIdentifier"], region), read_page(parameters))
        return show_page(images.list_managed_versions(asked), show_version_of)

    return {"ListManagedMicrovmImages": list_managed, "ListManagedMicrovmImageVersions": list_versions}


# --- what is asked


def read_image_arn(caller: Caller, arn: str, region: str) -> ImageName:
    """Return which image of the caller's an ARN names.

    Raises:
        ValidationError, AccessDeniedError: it is no image's ARN, or another account's.
    """
    return ImageName(image_name(check_image_arn(arn, region, caller.account_id)), named=arn)


def read_image(caller: Caller, parameters: Parameters, region: str) -> ImageName:
    """Return the image that `imageIdentifier` names.

    Raises:
        ValidationError, AccessDeniedError: see `read_image_arn`.
    """
    return read_image_arn(caller, parameters["imageIdentifier"], region)


def read_version(caller: Caller, parameters: Parameters, region: str) -> VersionName:
    """Return the version that `imageIdentifier` and `imageVersion` name.

    In a path `1` names the version `1.0`, as was recorded of ListMicrovmImageBuilds. RunMicrovm and ListMicrovms have
    the version elsewhere, and of them nothing was recorded.

    Raises:
        ValidationError, AccessDeniedError: see `read_image_arn`.
    """
    version = parameters["imageVersion"]
    if _WHOLE_NUMBER.fullmatch(version):
        version = f"{version}.0"
    return VersionName(read_image(caller, parameters, region), version)


def read_managed_image(arn: str, region: str) -> ImageName:
    """Return which managed image an ARN names: none where it is something else."""
    return ImageName(managed_image_name(arn, region), named=arn)


def read_create(parameters: Parameters, region: str) -> CreateImage:
    """Return what CreateMicrovmImage asks for."""
    return CreateImage(
        name=parameters["name"],
        configuration=read_configuration(parameters, read_managed_image(parameters["baseImageArn"], region)),
        tags=parameters.get("tags") or {},
        client_request=read_client_request("CreateMicrovmImage", parameters),
    )


def read_update(caller: Caller, parameters: Parameters, region: str) -> UpdateImage:
    """Return what UpdateMicrovmImage asks for.

    Raises:
        ValidationError, AccessDeniedError: see `read_image_arn`.
    """
    return UpdateImage(
        image=read_image(caller, parameters, region),
        configuration=read_configuration(parameters, read_managed_image(parameters["baseImageArn"], region)),
        client_request=read_client_request("UpdateMicrovmImage", parameters),
    )


def read_list_builds(caller: Caller, parameters: Parameters, region: str) -> ListBuilds:
    """Return what ListMicrovmImageBuilds asks for.

    Raises:
        ValidationError, AccessDeniedError: see `read_image_arn`.
    """
    return ListBuilds(
        version=read_version(caller, parameters, region),
        page=read_page(parameters),
        architecture=parameters.get("architecture"),
        chipset=parameters.get("chipset"),
        generation=parameters.get("chipsetGeneration"),
    )


# --- what is answered


def show_brief(image: Image) -> Members:
    """Return an image as a list shows it."""
    return {
        "id": image.id,
        "imageArn": image.arn,
        "name": image.name,
        "state": image.state,
        "latestActiveImageVersion": image.latest_active_version,
        "latestFailedImageVersion": image.latest_failed_version,
        "createdAt": image.created_at,
    }


def show_image(image: Image) -> Members:
    """Return an image as the API shows it."""
    return {**show_brief(image), "updatedAt": image.updated_at}


def show_changed(changed: VersionedImage) -> Members:
    """Return an image and what its new version was asked to be."""
    image, version = changed.image, changed.version
    return {**show_image(image), **show_request(version.request), "imageVersion": version.version}


def show_version(found: VersionedImage) -> Members:
    """Return a version as the API shows it: what it was asked to be, and its state."""
    image, version = found.image, found.version
    return {
        **show_request(version.request),
        "imageArn": image.arn,
        "imageVersion": version.version,
        "state": version.state,
        "status": version.status,
        "createdAt": version.created_at,
        "updatedAt": version.updated_at,
        "tags": image.tags or None,
        "versionStateTimeBucket": f"{version.state}#{version.updated_at:%y%m%d%H}",
    }


def show_build(found: ImageBuild) -> Members:
    """Return a build as a list shows it."""
    build = found.build
    return {
        "imageArn": found.image.arn,
        "imageVersion": build.version,
        "buildId": build.id,
        "buildState": build.state,
        "architecture": found.processor.architecture,
        "chipset": found.processor.chipset,
        "chipsetGeneration": found.processor.generation,
        "stateReason": build.state_reason,
        "createdAt": build.created_at,
    }


def show_whole_build(found: ImageBuild) -> Members:
    """Return a build with the sizes of its snapshot."""
    sizes = found.build.sizes
    snapshot = sizes and {
        "memorySnapshotSizeInBytes": sizes.memory,
        "codeInstallSizeInBytes": sizes.code,
        "diskSnapshotSizeInBytes": sizes.disk,
    }
    return {**show_build(found), "snapshotBuild": snapshot}


def show_managed(image: ManagedImage, region: str) -> Members:
    """Return a managed image as a list shows it."""
    return {"imageArn": managed_image_arn(region, image.name), "createdAt": image.since, "updatedAt": image.since}


def show_managed_version(image: ManagedImage, region: str) -> Members:
    """Return the version of a managed image as a list shows it."""
    return {
        **show_managed(image, region),
        "imageVersion": image.version,
        "status": "AVAILABLE",
        "supportedCpuConfigurations": [{"architecture": one} for one in image.architectures],
    }
