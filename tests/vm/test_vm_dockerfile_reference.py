"""What of the Dockerfile reference is refused, and what has no effect: rows of the table in docs/builds.md."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from support.build_bench import BASE, BuildBench, build_bench

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes of builds need networks of their own, which root makes"),
]

END = 'CMD ["true"]\n'
FILES = {"one": b"1", "two": b"2"}

REFUSED = {
    "RUN --security=insecure true": "unknown flag: security",
    "RUN --device=vendor.test/device=x true": "unknown flag: device",
    "RUN --mount=type=secret,id=a,required=true true": "no secrets and no SSH keys",
    "RUN --mount=type=secret,id=a,env=A true": "unexpected key 'env'",
    "RUN --mount=type=ssh,required=true true": "no secrets and no SSH keys",
    "COPY --parents one /p/": "unknown flag: parents",
    "COPY --exclude=two . /p/": "unknown flag: exclude",
    "COPY --chmod=u=rwx one /p": "write the mode as an octal number",
    "ADD --exclude=two . /p/": "unknown flag: exclude",
    "ADD --unpack=true one /p/": "unknown flag: unpack",
    "ADD https://git.test/x/y.git /p": '"git": executable file not found',
}
"""Instructions, and words of the log or the reason, in sandboxes; the host's builder refuses them too."""

REFUSED_ON_HOST = (
    "RUN <<EOT\ntrue\nEOT",
    "COPY <<EOT /p\ntext\nEOT",
    "RUN --network=none true",
    "RUN --mount=type=tmpfs,target=/t,size=1048576 true",
    "COPY --link one /p",
    "ADD --link one /p",
    "ADD --checksum=sha256:" + "0" * 64 + " http://192.0.2.1/x /p",
    "ENV A=abc\nENV B=${A%c}",
)
"""What BuildKit takes and the host's builder does not."""

NOTED = {
    "# syntax=docker/dockerfile:1\n": "NOTE: # syntax=docker/dockerfile:1 is not fetched",
    "FROM --platform=linux/arm64 emberbox/debian:12\n": "NOTE: --platform=linux/arm64 is ignored",
    "HEALTHCHECK CMD false\n": "NOTE: HEALTHCHECK has no effect on a microVM",
    "STOPSIGNAL SIGQUIT\n": "NOTE: STOPSIGNAL has no effect on a microVM",
    "VOLUME /v\n": "NOTE: VOLUME has no effect on a microVM",
    "ONBUILD RUN true\n": "NOTE: ONBUILD has no effect on a microVM",
}
"""Lines of one Dockerfile, and what the log says of each, wherever it is built."""


@pytest.fixture
async def bench() -> AsyncIterator[BuildBench]:
    async with build_bench() as bench:
        yield bench


async def test_what_is_refused_in_sandboxes_is_refused_with_words_on_it(bench: BuildBench) -> None:
    for instruction, words in REFUSED.items():
        built = await bench.build(f"{BASE}{instruction}\n{END}", FILES)
        assert built.error is not None, instruction
        assert words in f"{built.text}\n{built.error}", f"{instruction}:\n{built.text}\n{built.error}"


async def test_the_hosts_builder_refuses_more(bench: BuildBench) -> None:
    """So that nothing of a Dockerfile is passed over in silence there."""
    for instruction in (*REFUSED, *REFUSED_ON_HOST):
        built = await bench.build(f"{BASE}{instruction}\n{END}", FILES, on_host=True)
        assert built.error is not None, instruction
        assert built.error.reason == "CONTAINER_BUILD_FAILED"


@pytest.mark.parametrize("on_host", [False, True])
async def test_what_has_no_effect_is_noted(bench: BuildBench, on_host: bool) -> None:
    built = await bench.build("".join([*NOTED, END]), on_host=on_host)
    assert built.error is None, built.text
    assert [note for note in NOTED.values() if note not in built.text] == []


async def test_the_hosts_builder_knows_the_shell_that_steps_run_in(bench: BuildBench) -> None:
    """Else a failure in the midst of a pipe would be lost in silence."""
    steps = 'SHELL ["/bin/bash", "-o", "pipefail", "-c"]\nRUN ! (false | true) && [[ a == a* ]]\n'
    built = await bench.build(f"{BASE}{steps}{END}", on_host=True)
    assert built.error is None, built.text


async def test_the_sum_of_what_is_added_from_elsewhere_is_checked(bench: BuildBench) -> None:
    add = f"ADD --checksum=sha256:{'0' * 64} http://deb.debian.org/debian/README /x"
    built = await bench.build(f"{BASE}{add}\n{END}")
    assert built.error is not None
    assert "digest mismatch" in built.text
