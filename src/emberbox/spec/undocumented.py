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


def add_undocumented(service: str, model: dict[str, Any]) -> dict[str, Any]:
    """Add members and bounds to a service model as read from its file, and return it."""
    for shape, names in _MEMBERS.get(service, {}).items():
        members = model["shapes"][shape]["members"]
        for name in names:
            members.setdefault(name, {"shape": "String"})
    for shape, bounds in _BOUNDS.get(service, {}).items():
        model["shapes"][shape] = bounds | model["shapes"][shape]
    return model
