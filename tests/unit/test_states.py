"""The state machines: total, closed, and in the words of the service model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest
from botocore.session import get_session

from emberbox.model.sizes import SIZES
from emberbox.model.states import (
    BUILD_TRANSITIONS,
    IMAGE_TRANSITIONS,
    MICROVM_TRANSITIONS,
    VERDICTS,
    Action,
    BuildState,
    ImageState,
    MicrovmState,
    Verdict,
    VersionState,
    VersionStatus,
)


@pytest.mark.parametrize(
    ("states", "shape"),
    [
        (ImageState, "MicrovmImageState"),
        (VersionState, "MicrovmImageVersionState"),
        (VersionStatus, "MicrovmImageVersionStatus"),
        (BuildState, "BuildState"),
        (MicrovmState, "MicrovmState"),
    ],
)
def test_the_states_are_the_models(states: type[StrEnum], shape: str) -> None:
    model = get_session().get_service_model("lambda-microvms")
    assert {str(state) for state in states} == set(model.shape_for(shape).enum)


@pytest.mark.parametrize(
    ("table", "states"),
    [
        (IMAGE_TRANSITIONS, ImageState),
        (BUILD_TRANSITIONS, BuildState),
        (MICROVM_TRANSITIONS, MicrovmState),
    ],
)
def test_every_state_has_its_transitions(table: Mapping[Any, frozenset[Any]], states: type[StrEnum]) -> None:
    assert set(table) == set(states)
    assert all(targets <= set(states) for targets in table.values())


def test_every_action_in_every_state_has_a_verdict() -> None:
    assert set(VERDICTS) == set(itertools.product(MicrovmState, Action))


def test_terminated_is_the_end_and_can_be_reached_from_everywhere() -> None:
    assert not MICROVM_TRANSITIONS[MicrovmState.TERMINATED]
    for state in set(MicrovmState) - {MicrovmState.TERMINATING, MicrovmState.TERMINATED}:
        assert MicrovmState.TERMINATING in MICROVM_TRANSITIONS[state]


def test_what_is_done_the_transitions_allow() -> None:
    targets = {
        Action.SUSPEND: MicrovmState.SUSPENDING,
        Action.RESUME: MicrovmState.RUNNING,
        Action.TERMINATE: MicrovmState.TERMINATING,
    }
    for (state, action), verdict in VERDICTS.items():
        if verdict is Verdict.DO:
            assert targets[action] in MICROVM_TRANSITIONS[state], (state, action)


def test_sizes_grow_fourfold_to_their_peak() -> None:
    assert list(SIZES) == [512, 1024, 2048, 4096, 8192]
    for baseline, size in SIZES.items():
        assert (size.baseline_mib, size.mem_size_mib, size.vcpu_count) == (baseline, 4 * baseline, baseline // 512)
