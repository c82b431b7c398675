"""E2B's API keys: an access key in another form."""

from __future__ import annotations

import re

import pytest

from emberbox.edges.e2b.api_keys import read_api_key, write_api_key


def test_a_key_has_the_form_of_e2bs_and_is_read_again() -> None:
    key = write_api_key("AKIA234567ABCDEFGHIJ", "secret/With+Signs")

    assert re.fullmatch("e2b_[0-9a-f]+", key)
    assert read_api_key(key) == ("AKIA234567ABCDEFGHIJ", "secret/With+Signs")


@pytest.mark.parametrize("text", ["", "e2b_", "e2b_zz", "e2b_ff", "e2b_" + b"AKIA:x\n".hex(), "sk-" + "00" * 20])
def test_what_is_no_key_is_none(text: str) -> None:
    assert read_api_key(text) is None
