"""Tokens: what opens, what never opens, and what the key file is."""

from __future__ import annotations

import base64
import json
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwe
from joserfc.jwk import OctKey

from emberbox.control.endpoints.tokens import Grant, InvalidToken, PortGrant, TokenKeys, is_token_shaped
from emberbox.edges.aws.operations.microvms import read_ports
from emberbox.model.errors import HostError, ValidationError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
PORTS = PortGrant.of([(8080, 8080)])


@pytest.fixture
def keys(tmp_path: Path) -> TokenKeys:
    return TokenKeys(tmp_path / "keys.json")


def b64(value: bytes | str) -> str:
    raw = value if isinstance(value, bytes) else value.encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def header_of(token: str) -> dict[str, Any]:
    part = token.split(".", maxsplit=1)[0]
    header: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return header


def key_in(path: Path) -> tuple[str, OctKey]:
    row = json.loads(path.read_text())["keys"][0]
    return row["kid"], OctKey.import_key(base64.urlsafe_b64decode(row["secret"]))


def test_a_token_opens_to_what_it_was_minted_for(keys: TokenKeys) -> None:
    assert keys.open(keys.mint("mvm-1", PORTS, LATER), NOW) == Grant("mvm-1", PORTS, LATER, "application")
    assert keys.open(keys.mint("mvm-1", PORTS, LATER, kind="shell"), NOW).kind == "shell"


def test_a_token_has_the_form_of_the_services_tokens(keys: TokenKeys) -> None:
    token = keys.mint("mvm-1", PORTS, LATER)
    header, key, iv, _claims, tag = token.split(".")
    assert list(header_of(token)) == ["kid", "alg", "enc"]
    assert (header_of(token)["alg"], header_of(token)["enc"]) == ("dir", "A256GCM")
    assert (key, len(iv), len(tag)) == ("", 16, 22)
    assert header
    assert is_token_shaped(token)


def test_two_tokens_for_the_same_thing_differ(keys: TokenKeys) -> None:
    assert keys.mint("mvm-1", PORTS, LATER) != keys.mint("mvm-1", PORTS, LATER)


def test_a_token_stops_opening_at_its_expiry_even_when_it_was_opened_before(keys: TokenKeys) -> None:
    token = keys.mint("mvm-1", PORTS, LATER)
    keys.open(token, LATER - timedelta(seconds=1))
    for moment in (LATER, LATER + timedelta(days=1)):
        with pytest.raises(InvalidToken):
            keys.open(token, moment)


def test_every_changed_or_missing_character_closes_a_token(keys: TokenKeys) -> None:
    token = keys.mint("mvm-1", PORTS, LATER)
    for i in range(0, len(token), 7):
        swapped = token[:i] + ("A" if token[i] != "A" else "Q") + token[i + 1 :]
        for forged in (swapped, token[:i], token[:i] + token[i + 1 :]):
            with pytest.raises(InvalidToken):
                keys.open(forged, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "none"},
        {"alg": "A256KW"},
        {"enc": "A128CBC-HS256"},
        {"zip": "DEF"},
        {"kid": "00000000-0000-0000-0000-000000000000"},
        {"crit": ["exp"]},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
    ],
    ids=str,
)
def test_a_swapped_header_closes_a_token(keys: TokenKeys, change: dict[str, Any]) -> None:
    token = keys.mint("mvm-1", PORTS, LATER)
    swapped = b64(json.dumps(header_of(token) | change))
    with pytest.raises(InvalidToken):
        keys.open(".".join([swapped, *token.split(".")[1:]]), NOW)


def test_a_compressed_token_is_refused_even_when_our_own_key_made_it(tmp_path: Path) -> None:
    keys = TokenKeys(tmp_path / "keys.json")
    kid, key = key_in(tmp_path / "keys.json")
    header = {"kid": kid, "alg": "dir", "enc": "A256GCM", "zip": "DEF"}
    claims = {"vm": "mvm-1", "ports": [[1, 65535]], "kind": "application", "exp": int(LATER.timestamp())}
    with pytest.raises(InvalidToken):
        keys.open(jwe.encrypt_compact(header, json.dumps(claims), key), NOW)


@pytest.mark.parametrize("claims", ["", "[]", "null", "{}", '{"vm":"a","ports":[],"kind":"root","exp":9e9}'])
def test_claims_that_are_not_ours_are_refused_whoever_encrypted_them(tmp_path: Path, claims: str) -> None:
    keys = TokenKeys(tmp_path / "keys.json")
    kid, key = key_in(tmp_path / "keys.json")
    token = jwe.encrypt_compact({"kid": kid, "alg": "dir", "enc": "A256GCM"}, claims, key)
    with pytest.raises(InvalidToken):
        keys.open(token, NOW)


def test_another_servers_token_does_not_open(keys: TokenKeys, tmp_path: Path) -> None:
    other = TokenKeys(tmp_path / "other.json")
    with pytest.raises(InvalidToken):
        keys.open(other.mint("mvm-1", PORTS, LATER), NOW)


@pytest.mark.parametrize("value", ["", "Bearer x", "a.b.c.d.e", "....", "x" * 100_000, "\u00e9..a.b.c", "a\n"])
def test_something_that_is_no_token_is_not_token_shaped(keys: TokenKeys, value: str) -> None:
    assert not is_token_shaped(value)
    with pytest.raises(InvalidToken):
        keys.open(value, NOW)


def test_tokens_open_after_any_number_of_rotations_as_long_as_they_live(tmp_path: Path) -> None:
    keys = TokenKeys(tmp_path / "keys.json")
    token = keys.mint("mvm-1", PORTS, LATER)
    for minute in range(60):
        keys.rotate(NOW + timedelta(minutes=minute))
        assert keys.open(token, NOW).microvm_id == "mvm-1"
        assert header_of(keys.mint("mvm-1", PORTS, LATER))["kid"] != header_of(token)["kid"]
    assert TokenKeys(tmp_path / "keys.json").open(token, NOW).microvm_id == "mvm-1"
    for minute in range(60, 70):
        keys.rotate(NOW + timedelta(minutes=minute))
    with pytest.raises(InvalidToken):
        keys.open(token, NOW)


def test_keys_are_forgotten_when_no_token_of_them_can_live(tmp_path: Path) -> None:
    keys = TokenKeys(tmp_path / "keys.json")
    for day in range(5):
        keys.rotate(NOW + timedelta(days=day))
    assert len(json.loads((tmp_path / "keys.json").read_text())["keys"]) == 2


def test_a_key_is_replaced_when_it_is_old_enough_also_after_a_restart(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    token = TokenKeys(tmp_path / "keys.json").mint("mvm-1", PORTS, now + timedelta(hours=1))
    keys = TokenKeys(tmp_path / "keys.json")
    keys.rotate_when_older(3600, now + timedelta(seconds=3590))
    assert header_of(keys.mint("mvm-1", PORTS, LATER))["kid"] == header_of(token)["kid"]
    keys.rotate_when_older(3600, now + timedelta(seconds=3610))
    assert header_of(keys.mint("mvm-1", PORTS, LATER))["kid"] != header_of(token)["kid"]
    assert keys.open(token, now).microvm_id == "mvm-1"


def test_a_restart_keeps_the_keys(tmp_path: Path) -> None:
    first = TokenKeys(tmp_path / "keys.json")
    token = first.mint("mvm-1", PORTS, LATER)
    first.rotate(NOW)
    assert TokenKeys(tmp_path / "keys.json").open(token, NOW).microvm_id == "mvm-1"


def test_more_tokens_than_the_cache_holds_all_open_and_memory_stays_bounded(keys: TokenKeys) -> None:
    tokens = [keys.mint(f"mvm-{i}", PORTS, LATER) for i in range(4200)]
    assert [keys.open(t, NOW).microvm_id for t in tokens] == [f"mvm-{i}" for i in range(4200)]
    assert len(keys._opened) == 4096
    assert keys.open(tokens[0], NOW).microvm_id == "mvm-0"


def test_the_key_file_is_private_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    TokenKeys(tmp_path / "keys.json").rotate(NOW)
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["keys.json"]


def test_a_key_file_open_to_others_is_refused_with_the_remedy(tmp_path: Path) -> None:
    TokenKeys(tmp_path / "keys.json")
    (tmp_path / "keys.json").chmod(0o640)
    with pytest.raises(HostError, match="chmod 600"):
        TokenKeys(tmp_path / "keys.json")


@pytest.mark.parametrize("text", ["", "{}", '{"keys": []}', '{"keys": [{"kid": "a", "secret": "AAAA"}]}'])
def test_a_damaged_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(HostError, match="damaged"):
        TokenKeys(path)


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    keys = TokenKeys(tmp_path / "keys.json")
    secret = json.loads((tmp_path / "keys.json").read_text())["keys"][0]["secret"]
    token = keys.mint("mvm-1", PORTS, LATER)
    grant = keys.open(token, NOW)
    shown = repr(keys) + repr(keys._keys) + repr(grant)
    assert secret.rstrip("=") not in shown
    assert token not in shown
    with pytest.raises(InvalidToken) as caught:
        keys.open(token[:-1], NOW)
    assert token[:-1] not in repr(caught.value)


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        ([{"port": 80}], [80], [79, 81]),
        ([{"range": {"startPort": 80, "endPort": 82}}], [80, 81, 82], [79, 83]),
        ([{"port": 80}, {"range": {"startPort": 90, "endPort": 91}}], [80, 90, 91], [85]),
        ([{"allPorts": {}}], [1, 8080, 65535], [0, 65536]),
    ],
    ids=str,
)
def test_a_grant_opens_its_ports_and_no_others(
    allowed: list[dict[str, Any]], inside: list[int], outside: list[int]
) -> None:
    grant = PortGrant.of(read_ports(allowed))
    assert all(grant.allows(p) for p in inside)
    assert not any(grant.allows(p) for p in outside)


@pytest.mark.parametrize(
    "allowed",
    [
        [],
        [{}],
        [{"port": 0}],
        [{"port": 65536}],
        [{"port": "80"}],
        [{"port": 80, "allPorts": {}}],
        [{"range": {"startPort": 90, "endPort": 80}}],
        [{"range": {"startPort": 90}}],
    ],
    ids=str,
)
def test_an_impossible_list_of_ports_is_refused(allowed: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError, match=re.compile("allowedPorts")):
        PortGrant.of(read_ports(allowed))
