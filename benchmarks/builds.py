"""How long Dockerfiles take to build, on the host and in a sandbox, in turns.

    .venv/bin/python benchmarks/builds.py [--turns 2] [--only flask steps]

From a context to a packed root file system, without layers of earlier builds; then in a sandbox with those of the build
before. As root: sandboxes have networks of their own. Prints seconds of one run; the machine's other work is in them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.build_bench import BuildBench, build_bench

ROOT = Path(__file__).resolve().parents[1]
STEPS = """\
FROM emberbox/debian:12 AS maker
RUN i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done
RUN mkdir /made && for i in $(seq 2000); do echo $i > /made/$i; done && tar -cf /made.tar /made
FROM emberbox/debian:12
COPY --from=maker /made /made
COPY app.py /
CMD ["true"]
"""
"""A loop for the processor, one for files, and two stages; nothing of the network."""


def find_cases() -> dict[str, tuple[str, dict[str, bytes]]]:
    """Return Dockerfiles with what their contexts have besides."""
    cases = {
        name: (
            (ROOT / "examples" / name / "Dockerfile").read_text(),
            {path.name: path.read_bytes() for path in (ROOT / "examples" / name).iterdir() if path.name[:3] == "app"},
        )
        for name in ("flask", "express")
    }
    return {**cases, "steps": (STEPS, {"app.py": b""})}


async def measure(bench: BuildBench, dockerfile: str, files: dict[str, bytes], *, on_host: bool) -> float:
    """Build once; return the seconds."""
    started = time.monotonic()
    built = await bench.build(dockerfile, files, on_host=on_host)
    if built.error is not None:
        raise SystemExit(f"{built.text}\n{built.error}")
    return time.monotonic() - started


async def main(turns: int, only: list[str]) -> None:
    """Measure some Dockerfiles, and print a line for each pair of builds."""
    async with build_bench() as plain, build_bench(cache_bytes=2 << 30) as caching:
        for bench in (plain, caching):
            await measure(bench, 'FROM emberbox/debian:12\nCMD ["true"]\n', {}, on_host=False)
        await measure(plain, 'FROM emberbox/debian:12\nCMD ["true"]\n', {}, on_host=True)
        for name, (dockerfile, files) in find_cases().items():
            if name not in only:
                continue
            for turn in range(turns):
                host_s = await measure(plain, dockerfile, files, on_host=True)
                sandbox_s = await measure(plain, dockerfile, files, on_host=False)
                print(f"{name} {turn + 1}: host {host_s:.1f} s, sandbox {sandbox_s:.1f} s", flush=True)
            await measure(caching, dockerfile, files, on_host=False)
            again_s = await measure(caching, dockerfile, files, on_host=False)
            print(f"{name}: sandbox with the layers of the build before {again_s:.1f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=2, help="builds of each Dockerfile, each way")
    parser.add_argument("--only", nargs="+", default=list(find_cases()), help="the Dockerfiles")
    given = parser.parse_args()
    asyncio.run(main(given.turns, given.only))
