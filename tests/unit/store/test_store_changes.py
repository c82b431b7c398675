"""Listeners hear which rows have changed, from any thread, and a slow one costs no more than a bound."""

from __future__ import annotations

import asyncio

from emberbox.store.changes import WAITING_MAX, Change, Changes, Kind, log_key

ONE, TWO = Change(Kind.MICROVM, "one"), Change(Kind.MICROVM, "two")


async def test_a_listener_hears_what_it_listens_for() -> None:
    changes = Changes()
    changes.tell(ONE)  # nobody listens
    with changes.listen(Kind.MICROVM) as every, changes.listen(Kind.MICROVM, "two") as second:
        await asyncio.to_thread(changes.tell, ONE, TWO, ONE, Change(Kind.IMAGE, "two"))
        assert await every.wait() == {"one", "two"}
        assert await second.wait() == {"two"}
        changes.tell(Change(Kind.MICROVM, None))
        assert await every.wait() == {None}
        assert await second.wait() == {None}
    assert changes._listeners == ()


async def test_what_waits_has_a_bound() -> None:
    changes = Changes()
    with changes.listen(Kind.LOG) as listener:
        for number in range(3 * WAITING_MAX):
            changes.tell(Change(Kind.LOG, log_key("1", "group", str(number))))
        await asyncio.sleep(0)
        assert len(listener._waiting) <= WAITING_MAX
        assert await listener.wait() == {None}
        changes.tell(Change(Kind.LOG, "later"))
        assert await listener.wait() == {"later"}
