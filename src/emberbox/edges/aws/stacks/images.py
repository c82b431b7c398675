"""AWS::Lambda::MicrovmImage: an image; each change of it but of its tags builds a new version."""

from __future__ import annotations

from typing import Any, Final

from emberbox.control.stacks.kinds import Job, Made, Tell
from emberbox.edges.aws.stacks.calls import Calls
from emberbox.edges.aws.stacks.kind import StabilityError, Terms, as_parameters, chosen_name, merged_tags, waits
from emberbox.edges.aws.stacks.tags import change_tags
from emberbox.model.caller import Caller
from emberbox.model.errors import NotFoundError
from emberbox.model.stacks.template import Values
from emberbox.model.states import ImageState, VersionState
from emberbox.spec.models import MICROVMS, load_operation

_UNDER_WAY: Final = (ImageState.CREATING, ImageState.UPDATING)
_VERSION_UNDER_WAY: Final = (VersionState.PENDING, VersionState.IN_PROGRESS)
_ATTRIBUTES: Final = {
    "ImageArn": "imageArn",
    "State": "state",
    "LatestActiveImageVersion": "latestActiveImageVersion",
    "LatestFailedImageVersion": "latestFailedImageVersion",
}


class ImageKind:
    """Makes images.

    Args:
        calls: calls operations.
    """

    terms = Terms(
        taken=frozenset(
            {
                "Name", "BaseImageArn", "BaseImageVersion", "BuildRoleArn", "Description", "CodeArtifact", "Logging",
                "EgressNetworkConnectors", "CpuConfigurations", "Resources", "AdditionalOsCapabilities", "Hooks",
                "EnvironmentVariables", "Tags",
            }
        ),
        needed=frozenset({"BaseImageArn", "BuildRoleArn", "CodeArtifact"}),
        fixed=frozenset({"Name"}),
        name="Name",
    )  # fmt: skip

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, job: Job, tell: Tell) -> Made:
        """Make an image, and wait for its first version; the client token makes a repeat harmless."""
        parameters = self._parameters("CreateMicrovmImage", job)
        parameters |= {"name": chosen_name(self.terms, job), "clientToken": job.token}
        if tags := merged_tags(job):
            parameters["tags"] = tags
        made = await self._calls.call(job.caller, MICROVMS, "CreateMicrovmImage", parameters)
        await tell(made["imageArn"])
        return await self._built(job.caller, made["imageArn"], made["imageVersion"])

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:
        """Build a new version where anything but tags has changed."""
        if _without_tags(before) != _without_tags(job.properties):
            await self._settled(job.caller, physical_id)
            parameters = self._parameters("UpdateMicrovmImage", job) | {"imageIdentifier": physical_id}
            made = await self._calls.call(job.caller, MICROVMS, "UpdateMicrovmImage", parameters)
            await self._built(job.caller, physical_id, made["imageVersion"])
        await change_tags(self._calls, job, physical_id)
        return await self._shown(job.caller, physical_id)

    async def delete(self, job: Job, physical_id: str) -> None:
        """Delete an image with its versions."""
        try:
            await self._settled(job.caller, physical_id)
            await self._calls.call(job.caller, MICROVMS, "DeleteMicrovmImage", {"imageIdentifier": physical_id})
            async for _ in waits():
                state = (await self._get(job.caller, physical_id))["state"]
                if state == ImageState.DELETE_FAILED:
                    raise StabilityError(f"The image {physical_id} could not be deleted; the server's log says why")
        except NotFoundError:
            return

    def _parameters(self, operation: str, job: Job) -> dict[str, Any]:
        shape = load_operation(MICROVMS, operation).input_shape
        values = {name: value for name, value in job.properties.items() if name not in ("Name", "Tags")}
        logging = dict(values.pop("Logging", None) or {})
        is_off = str(logging.pop("Disabled", False)).lower() == "true"  # a truth here, an object in the API
        parameters = as_parameters(shape, {**values, "Logging": logging} if logging else values)
        return {**parameters, "logging": {"disabled": {}}} if is_off else parameters

    async def _built(self, caller: Caller, arn: str, version: str) -> Made:
        asked = {"imageIdentifier": arn, "imageVersion": version}
        async for _ in waits():
            state = (await self._calls.call(caller, MICROVMS, "GetMicrovmImageVersion", asked))["state"]
            if state == VersionState.SUCCESSFUL:
                await self._settled(caller, arn)
                return await self._shown(caller, arn)
            if state not in _VERSION_UNDER_WAY:
                raise StabilityError(f"The build of version {version} failed: {await self._why(caller, asked)}")
        raise AssertionError("waits never end")

    async def _why(self, caller: Caller, asked: dict[str, Any]) -> str:
        builds = (await self._calls.call(caller, MICROVMS, "ListMicrovmImageBuilds", asked))["items"]
        reason = next((build["stateReason"] for build in builds if build.get("stateReason")), "no reason is known")
        return f"{reason}. The build's log has more: `emberbox logs` shows it"

    async def _settled(self, caller: Caller, arn: str) -> None:
        async for _ in waits():
            if (await self._get(caller, arn))["state"] not in _UNDER_WAY:
                return

    async def _get(self, caller: Caller, arn: str) -> Values:
        return await self._calls.call(caller, MICROVMS, "GetMicrovmImage", {"imageIdentifier": arn})

    async def _shown(self, caller: Caller, arn: str) -> Made:
        image = await self._get(caller, arn)
        shown = {name: str(image[member]) for name, member in _ATTRIBUTES.items() if image.get(member) is not None}
        moments = {"CreatedAt": image["createdAt"].isoformat(), "UpdatedAt": image["updatedAt"].isoformat()}
        return Made(arn, {"LatestFailedImageVersion": "", **shown, **moments})


def _without_tags(properties: Values) -> Values:
    return {name: value for name, value in properties.items() if name != "Tags"}
