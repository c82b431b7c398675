"""API keys of sandboxes' SDKs: an access key in another form."""

from __future__ import annotations

import re

import pytest

from emberbox.edges.sandboxes.api_keys import E2B, read_api_key, write_api_key


def test_a_key_has_the_form_of_e2bs_and_is_read_again() -> None:
    key = write_api_key(E2B, "AKIA234567ABCDEFGHIJ", "secret/With+Signs")

    assert re.fullmatch("e2b_[0-9a-f]+", key)
    assert read_api_key(E2B, key) == ("AKIA234567ABCDEFGHIJ", "secret/With+Signs")


@pytest.mark.parametrize("text", ["", "e2b_", "e2b_zz", "e2b_ff", "e2b_" + b"AKIA:x\n".hex(), "sk-" + "00" * 20])
def test_what_is_no_key_is_none(text: str) -> None:
    assert read_api_key(E2B, text) is None
