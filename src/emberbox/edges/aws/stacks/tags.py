"""Tags of images and connectors: what a resource is to have, and no others but those that nobody's template gave."""

from __future__ import annotations

from emberbox.control.stacks.kinds import Job
from emberbox.edges.aws.stacks.calls import Calls
from emberbox.edges.aws.stacks.kind import merged_tags
from emberbox.spec.models import MICROVMS


async def change_tags(calls: Calls, job: Job, arn: str) -> None:
    """Give a resource the tags of its job.

    Args:
        calls: calls operations.
        job: see there.
        arn: of an image or a connector.
    """
    wanted = merged_tags(job)
    found = (await calls.call(job.caller, MICROVMS, "ListTags", {"Resource": arn})).get("Tags") or {}
    if changed := {key: value for key, value in wanted.items() if found.get(key) != value}:
        await calls.call(job.caller, MICROVMS, "TagResource", {"Resource": arn, "Tags": changed})
    if gone := sorted(found.keys() - wanted.keys()):
        await calls.call(job.caller, MICROVMS, "UntagResource", {"Resource": arn, "TagKeys": gone})
