"""Names of sandboxes' ports."""

from __future__ import annotations

import pytest

from emberbox.model.sandbox_names import Address, read_domain, read_label


@pytest.mark.parametrize(
    ("label", "address"),
    [
        ("8080-microvm-a1", Address("microvm-a1", 8080)),
        ("65535-a", Address("a", 65535)),
        ("65536-a", None),
        ("0-a", None),
        ("080-a", None),
        ("api", None),
        ("8080-", None),
        ("8080-A", None),
        ("-8080-a", None),
        ("8080-a.b", None),
        ("8080-" + "a" * 58, None),
    ],
)
def test_a_label_names_a_port_and_a_sandbox(label: str, address: Address | None) -> None:
    assert read_label(label) == address


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("e2b.localhost", "e2b.localhost"),
        ("Boxes.Example.COM:9072", "boxes.example.com"),
        ("localhost:9072", "localhost"),
        ("127.0.0.1:9072", ""),
        ("[::1]:9072", ""),
        ("a..b", ""),
        ("-a.b", ""),
        ("a_b.c", ""),
        ("", ""),
    ],
)
def test_a_domain_can_have_a_certificate_or_is_none(text: str, domain: str) -> None:
    assert read_domain(text) == domain
