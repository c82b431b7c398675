"""How soon the console's list is there with many microVMs, and whether a page that stays open grows.

    .venv/bin/python benchmarks/console.py [--microvms N] [--loads N] [--soak SECONDS]

The control plane is real, with its database and the console in front of it, on machines that run nothing: what is
measured is the server's answer and Chromium's work. The browser has logged in before, and has the page in its cache
from the second load on, as somebody has who comes back. `--soak` changes a microVM ten times a second and looks at the
page's heap, after a collection, and at its nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from playwright.async_api import Page, async_playwright

from emberbox.model.states import MicrovmState
from support.console_browser import FLAGS
from support.console_world import PROOF, ConsolePlane, serve_console

WATCH = """
addEventListener("DOMContentLoaded", () => {
    const look = () => {
        if (!document.querySelector("table.rows tbody tr")) return;
        seen.disconnect();
        requestAnimationFrame(() => requestAnimationFrame(() => { window.rowsAt = performance.now(); }));
    };
    const seen = new MutationObserver(look);
    seen.observe(document.documentElement, {childList: true, subtree: true});
});
"""
CHANGES_PER_S = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--microvms", type=int, default=1000)
    parser.add_argument("--loads", type=int, default=10)
    parser.add_argument("--soak", type=float, default=0.0)
    asyncio.run(measure(parser.parse_args()))


async def measure(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with serve_console(Path(directory)) as plane, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            image = plane.images.find_named(plane.credential.account_id, "hello", plane.region)
            assert image is not None
            rows = [plane.add_microvm(image, MicrovmState.RUNNING) for _ in range(options.microvms)]
            page = await browser.new_page(base_url=plane.url, viewport={"width": 1440, "height": 900})
            await page.add_init_script(WATCH)
            await log_in(page)
            await tell_loads(page, options)
            if options.soak:
                await soak(plane, page, [row.id for row in rows], options.soak)
            await browser.close()


async def log_in(page: Page) -> None:
    await page.goto("/")
    await page.fill("#key", PROOF["accessKeyId"])
    await page.fill("#secret", PROOF["secretAccessKey"])
    await page.click("button[type=submit]")
    await page.wait_for_selector("table.rows tbody tr")


async def tell_loads(page: Page, options: argparse.Namespace) -> None:
    paints, lists = [], []
    for _ in range(options.loads):
        await page.reload()
        await page.wait_for_selector("table.rows tbody tr")
        await asyncio.sleep(0.3)
        told = await page.evaluate(
            "() => [performance.getEntriesByName('first-contentful-paint')[0].startTime, window.rowsAt]"
        )
        paints.append(told[0])
        lists.append(told[1])
    print(
        f"{options.microvms} microVMs, {options.loads} loads; milliseconds after the navigation began, median (longest)"
    )
    print(f"first contentful paint  {statistics.median(paints):6.0f} ({max(paints):.0f})")
    print(f"the list is painted     {statistics.median(lists):6.0f} ({max(lists):.0f})")


async def soak(plane: ConsolePlane, page: Page, ids: list[str], seconds: float) -> None:
    session = await page.context.new_cdp_session(page)
    changing = asyncio.create_task(change(plane, ids))
    print(f"open for {seconds:g} s with {CHANGES_PER_S} changes a second: seconds, heap in KiB, nodes")
    started = time.monotonic()
    try:
        for part in range(6):
            await asyncio.sleep(max(0.0, started + seconds * part / 5 - time.monotonic()))
            await session.send("HeapProfiler.collectGarbage")
            told: Any = await session.send("Runtime.getHeapUsage")
            nodes = await session.send("Memory.getDOMCounters")
            print(f"{time.monotonic() - started:6.0f} {told['usedSize'] / 1024:8.0f} {nodes['nodes']:6d}")
    finally:
        changing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await changing


async def change(plane: ConsolePlane, ids: list[str]) -> None:
    """Suspend one after the other, and let it run again."""
    number = 0
    while True:
        for state in (MicrovmState.SUSPENDING, MicrovmState.SUSPENDED, MicrovmState.RUNNING):
            await asyncio.to_thread(plane.microvms.change_state, ids[number % len(ids)], state)
            await asyncio.sleep(1 / CHANGES_PER_S)
        number += 1


if __name__ == "__main__":
    main()
