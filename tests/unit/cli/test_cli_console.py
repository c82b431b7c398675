"""`emberbox console`: the link, and what is said where there is none."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from emberbox.cli.console import make_link
from emberbox.cli.context import Server
from emberbox.model.errors import HostError
from support.console_world import serve_console
from support.wire import KEY, REGION

SERVER = Server(
    home=Path("/none"), pid=1, region=REGION, account_id=KEY.account_id, api_url="", s3_url="", gateway="",
    ca_bundle=Path("/none"), accelerator="tcg", network="user", access_key_id=KEY.access_key_id,
    secret_access_key=KEY.secret_access_key,
)  # fmt: skip


async def test_a_link_leads_to_where_people_reach_the_console(tmp_path: Path) -> None:
    async with serve_console(tmp_path) as console:
        server = replace(SERVER, console_url="https://console.example", console_listener=console.url)
        link = await asyncio.to_thread(make_link, server)
        address, _, code = link.rpartition("/")
        assert address == "https://console.example/#/enter"
        async with console.browser() as browser:
            await console.log_in(browser, {"code": code})
        wrong = replace(server, secret_access_key="wrong")
        with pytest.raises(HostError, match="gives no link: This access key"):
            await asyncio.to_thread(make_link, wrong)


def test_a_server_without_a_console_says_so() -> None:
    with pytest.raises(HostError, match="EMBERBOX_CONSOLE=on"):
        make_link(SERVER)


def test_a_console_that_does_not_answer_says_so() -> None:
    with pytest.raises(HostError, match="does not answer at http://127"):
        make_link(replace(SERVER, console_url="x", console_listener="http://127.0.0.1:1"))
