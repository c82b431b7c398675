"""What CDK puts into templates to help itself: functions of its own, whose work is done here without them.

`LogRetention` sets how long a log group that others make keeps its events. On AWS a function of CDK's does it, one in
each stack, with an id that is always the same; here the resource that would call it is a kind of its own.
"""

from __future__ import annotations

from typing import Final

LOG_RETENTION: Final = "Custom::LogRetention"
LOG_RETENTION_PROVIDER: Final = "AWS::CDK::LogRetentionFunction"
"""What the function is called here: it stands for nothing."""

_FUNCTION: Final = "AWS::Lambda::Function"
_PROVIDER_ID: Final = "LogRetentionaae0aa3c5b4d4f87b02d85b201efdd8a"
"""CDK's id of the function, which a hash of its path follows (aws-cdk-lib, aws-logs/lib/log-retention.ts)."""


def own_type(logical_id: str, kind: str) -> str:
    """Return the type of a resource, or what stands for it here where it is one of CDK's helpers."""
    is_provider = kind == _FUNCTION and logical_id.startswith(_PROVIDER_ID)
    return LOG_RETENTION_PROVIDER if is_provider else kind
