"""The state machines: total, closed, and in the words of the service model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest
from botocore.session import get_session

from emberbox.model.iam.actions import (
    CONNECTOR_VERDICTS,
    IMAGE_VERDICTS,
    VERSION_VERDICTS,
    ConnectorAction,
    ImageAction,
    VersionAction,
)
from emberbox.model.sizes import SIZES
from emberbox.model.states import (
    BUILD_TRANSITIONS,
    CONNECTOR_TRANSITIONS,
    IMAGE_TRANSITIONS,
    MICROVM_TRANSITIONS,
    VERDICTS,
    VERSION_TRANSITIONS,
    Action,
    BuildState,
    ConnectorState,
    ImageState,
    MicrovmState,
    UpdateStatus,
    Verdict,
    VersionState,
    VersionStatus,
)


@pytest.mark.parametrize(
    ("states", "service", "shape"),
    [
        (ImageState, "lambda-microvms", "MicrovmImageState"),
        (VersionState, "lambda-microvms", "MicrovmImageVersionState"),
        (VersionStatus, "lambda-microvms", "MicrovmImageVersionStatus"),
        (BuildState, "lambda-microvms", "BuildState"),
        (MicrovmState, "lambda-microvms", "MicrovmState"),
        (ConnectorState, "lambda-core", "NetworkConnectorState"),
        (UpdateStatus, "lambda-core", "NetworkConnectorLastUpdateStatus"),
    ],
)
def test_the_states_are_the_models(states: type[StrEnum], service: str, shape: str) -> None:
    model = get_session().get_service_model(service)
    assert {str(state) for state in states} == set(model.shape_for(shape).enum)


@pytest.mark.parametrize(
    ("table", "states"),
    [
        (IMAGE_TRANSITIONS, ImageState),
        (VERSION_TRANSITIONS, VersionState),
        (BUILD_TRANSITIONS, BuildState),
        (CONNECTOR_TRANSITIONS, ConnectorState),
        (MICROVM_TRANSITIONS, MicrovmState),
    ],
)
def test_every_state_has_its_transitions(table: Mapping[Any, frozenset[Any]], states: type[StrEnum]) -> None:
    assert set(table) == set(states)
    assert all(targets <= set(states) for targets in table.values())


@pytest.mark.parametrize(
    ("verdicts", "states", "actions"),
    [
        (VERDICTS, MicrovmState, Action),
        (IMAGE_VERDICTS, ImageState, ImageAction),
        (VERSION_VERDICTS, VersionState, VersionAction),
        (CONNECTOR_VERDICTS, ConnectorState, ConnectorAction),
    ],
)
def test_every_action_in_every_state_has_a_verdict(
    verdicts: Mapping[Any, Any], states: type[StrEnum], actions: type[StrEnum]
) -> None:
    assert set(verdicts) == set(itertools.product(states, actions))


def test_terminated_is_the_end_and_can_be_reached_from_everywhere() -> None:
    assert not MICROVM_TRANSITIONS[MicrovmState.TERMINATED]
    for state in set(MicrovmState) - {MicrovmState.TERMINATING, MicrovmState.TERMINATED}:
        assert MicrovmState.TERMINATING in MICROVM_TRANSITIONS[state]


@pytest.mark.parametrize(
    ("verdicts", "transitions", "targets"),
    [
        (
            VERDICTS,
            MICROVM_TRANSITIONS,
            {
                Action.SUSPEND: MicrovmState.SUSPENDING,
                Action.RESUME: MicrovmState.RUNNING,
                Action.TERMINATE: MicrovmState.TERMINATING,
            },
        ),
        (
            IMAGE_VERDICTS,
            IMAGE_TRANSITIONS,
            {
                ImageAction.UPDATE: ImageState.UPDATING,
                ImageAction.DELETE: ImageState.DELETING,
                ImageAction.DELETE_VERSION: ImageState.UPDATING,
            },
        ),
        (VERSION_VERDICTS, VERSION_TRANSITIONS, {VersionAction.DELETE: VersionState.DELETING}),
        (CONNECTOR_VERDICTS, CONNECTOR_TRANSITIONS, {ConnectorAction.DELETE: ConnectorState.DELETING}),
    ],
)
def test_what_is_done_the_transitions_allow(
    verdicts: Mapping[Any, Any], transitions: Mapping[Any, frozenset[Any]], targets: Mapping[Any, Any]
) -> None:
    for (state, action), verdict in verdicts.items():
        if verdict is Verdict.DO and action in targets:
            assert targets[action] in transitions[state], (state, action)


def test_sizes_grow_fourfold_to_their_peak() -> None:
    assert list(SIZES) == [512, 1024, 2048, 4096, 8192]
    for baseline, size in SIZES.items():
        assert (size.baseline_mib, size.mem_size_mib, size.vcpu_count) == (baseline, 4 * baseline, baseline // 512)
