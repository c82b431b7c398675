"""Every limit that the service models state: its edge passes, one past it is refused in AWS's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from emberbox.edges.aws.server import create_api
from emberbox.model.caller import Caller
from emberbox.model.errors import ConflictError
from emberbox.spec.models import SERVICES, load_operation, operation_names
from support.wire import FIND_KEY, REGION, call, every_operation, signed_operation

from .limits import Case, cases

REACHED = "the handler was reached"


async def reached(_caller: Caller, _parameters: dict[str, Any]) -> dict[str, Any]:
    raise ConflictError(REACHED)


APP = create_api({service: dict.fromkeys(operation_names(service), reached) for service in SERVICES}, FIND_KEY, REGION)


async def answer(service: str, name: str, case: Case) -> str:
    """Return the text of the answer."""
    found = await call(APP, signed_operation(service, name, case.parameters))
    body = json.loads(found.body)
    return str(body.get("message") or body.get("Message"))


@pytest.mark.parametrize(("service", "name"), every_operation())
async def test_each_limit_passes_at_its_edge_and_is_told_one_past_it(service: str, name: str) -> None:
    for case in cases(load_operation(service, name)):
        told = await answer(service, name, case)
        if case.phrase is None:
            assert told == REACHED, (case.place, case.parameters)
        else:
            assert f" at '{case.place}' failed to satisfy constraint: " in told, (case.place, case.phrase, told[:500])
            assert case.phrase in told, (case.place, case.phrase, told[:500])


def test_the_limits_are_many() -> None:
    """The generator goes through the models: what it makes is not a handful."""
    found = [case for service, name in every_operation() for case in cases(load_operation(service, name))]
    assert sum(case.phrase is None for case in found) > 500
    assert sum(case.phrase is not None for case in found) > 1000
