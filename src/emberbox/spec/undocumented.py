"""What AWS does and its published model does not say.

Members that it sends: SDKs drop them, other readers of the wire see them. Recorded by m80 in 2026-07 and 2026-08
(dossier, section 2.1). Bounds that its documents state: the wire layer checks them as it checks the model's own.
"""

from __future__ import annotations

from typing import Any, Final

_IMAGE: Final = ("id", "buildPhaseOverrides", "roleConfiguration")
_VERSION: Final = ("versionStateTimeBucket",)
_REASON: Final = ("terminationReasonCode",)
_MEMBERS: Final = {
    "lambda-microvms": {
        "CreateMicrovmImageResponse": _IMAGE,
        "UpdateMicrovmImageResponse": _IMAGE,
        "GetMicrovmImageOutput": ("id",),
        "MicrovmImageSummary": ("id",),
        "GetMicrovmImageVersionOutput": _VERSION,
        "MicrovmImageVersionSummary": _VERSION,
        "UpdateMicrovmImageVersionResponse": _VERSION,
        "GetMicrovmImageBuildOutput": _REASON,
        "MicrovmImageBuildSummary": _REASON,
        "RunMicrovmResponse": _REASON,
        "GetMicrovmResponse": _REASON,
    }
}

_BOUNDS: Final = {
    "lambda-microvms": {
        "IdlePolicyMaxIdleDurationSecondsInteger": {"max": 28_800},  # dossier, section 4.2: as long as a microVM lives
    }
}


# Strings whose length counts in UTF-8 bytes, not in characters (microvms-agentd, measured on AWS: 4,096 bytes).
_IN_BYTES: Final = {"lambda-microvms": ("RunHookPayload",), "emberbox": ("RunHookPayload",)}
IN_BYTES: Final = "lengthInBytes"
"""The trait that such shapes get."""

# What the audit trail must not hold though the model does not say so.
_SECRETS: Final = {"sts": ("tokenType",)}


def add_undocumented(service: str, model: dict[str, Any]) -> dict[str, Any]:
    """Add members, bounds, units and secrets to a service model as read from its file, and return it."""
    for shape, names in _MEMBERS.get(service, {}).items():
        members = model["shapes"][shape]["members"]
        for name in names:
            members.setdefault(name, {"shape": "String"})
    for shape, bounds in _BOUNDS.get(service, {}).items():
        model["shapes"][shape] = bounds | model["shapes"][shape]
    for shape in _IN_BYTES.get(service, ()):
        model["shapes"][shape] = {IN_BYTES: True} | model["shapes"][shape]
    for shape in _SECRETS.get(service, ()):
        model["shapes"][shape] = {"sensitive": True} | model["shapes"][shape]
    return model
