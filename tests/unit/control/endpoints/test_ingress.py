"""Ingress connectors: every one, and those that contradict each other."""

from __future__ import annotations

import pytest

from emberbox.control.endpoints.ingress import LETS_IN, lets_in
from emberbox.model.arns import INGRESS_CONNECTORS
from emberbox.model.launch_requests import Ingress


@pytest.mark.parametrize(
    ("names", "application", "shell"),
    [
        (["HTTP_INGRESS"], True, False),
        (["ALL_INGRESS"], True, False),
        (["SHELL_INGRESS"], False, True),
        (["HTTP_INGRESS", "SHELL_INGRESS"], True, True),
        (["ALL_INGRESS", "SHELL_INGRESS"], True, True),
        (["NO_INGRESS"], False, False),
        (["NO_INGRESS", "HTTP_INGRESS", "SHELL_INGRESS"], False, False),
        ([], False, False),
    ],
)
def test_connectors_let_in_what_they_name(names: list[str], application: bool, shell: bool) -> None:
    connectors = [Ingress(name) for name in names]
    assert (lets_in(connectors, "application"), lets_in(connectors, "shell")) == (application, shell)


def test_every_connector_that_a_launch_may_name_is_known_here() -> None:
    assert set(LETS_IN) == set(INGRESS_CONNECTORS) == set(Ingress)
