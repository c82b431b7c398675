"""E2B's own template builder, unmodified, with real builds and real microVMs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import BuildException, LogEntry, Sandbox, Template, wait_for_port

from support.e2b import e2b_environment
from support.server import Server

pytestmark = pytest.mark.vm

BASE = "emberbox/debian:12"
SERVE = """perl -MIO::Socket::INET -e '
    $who = getpwuid($<);
    $s = IO::Socket::INET->new(LocalPort => 8123, Listen => 5, ReuseAddr => 1) or die;
    while ($c = $s->accept) { print $c "HTTP/1.0 200 OK\\r\\n\\r\\nserved by $who\\n"; close $c }'"""


@pytest.fixture(scope="module", autouse=True)
def environment(server: Server) -> Iterator[None]:
    """Lead the SDK here by its own variables."""
    with e2b_environment(server):
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[LogEntry]:
    """A template with a file, a user's directory and a server, and the log of its build."""
    context = tmp_path_factory.mktemp("context")
    (context / "data" / "deep").mkdir(parents=True)
    (context / "data" / "deep" / "file").write_text("copied")
    (context / "data" / "link").symlink_to("deep/file")
    (context / "tool.sh").write_text("#!/bin/sh\necho it works\n")
    (context / "tool.sh").chmod(0o755)
    template = (
        Template(file_context_path=context)
        .from_image(BASE)
        .set_envs({"GREETING": 'hello "you"'})
        .run_cmd(['echo "$GREETING" > greeting', "id -un > who"])
        .run_cmd("id -un > /root/who && echo $0", user="root")
        .copy("data", "/srv/data")
        .copy("*.sh", "tools", user="root:root", mode=0o755)
        .set_workdir("/home/user/work")
        .set_start_cmd(SERVE, wait_for_port(8123))
    )
    logs: list[LogEntry] = []
    Template.build(template, "e2b-built:first", tags=["stable"], memory_mb=512, on_build_logs=logs.append)
    return logs


def test_a_sandbox_of_a_template_has_what_its_steps_made(built: list[LogEntry]) -> None:
    with Sandbox.create("e2b-built:stable", timeout=600) as sandbox:

        def run(line: str, user: str | None = None) -> str:
            return sandbox.commands.run(line, user=user).stdout

        assert run("id -un; pwd") == "user\n/home/user/work\n"
        assert run("cat ~/greeting ~/who") == 'hello "you"\nuser\n'
        assert run("cat /root/who", "root") == "root\n"
        assert run("cat /srv/data/deep/file /srv/data/link; stat -c %U /srv/data/deep/file") == "copiedcopieduser\n"
        assert run("~/tools/tool.sh; stat -c %U:%a ~/tools/tool.sh") == "it works\nroot:755\n"
    assert any("SUCCESSFUL" in line.message for line in built)


def test_the_start_command_serves_as_soon_as_a_sandbox_is_there(built: list[LogEntry]) -> None:
    with Sandbox.create("e2b-built:first", timeout=600) as sandbox:
        line = "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(q(127.0.0.1:8123)) or die; print <$s>'"
        assert sandbox.commands.run(line).stdout.endswith("served by user\n")


def test_a_step_that_fails_leads_to_its_line_in_the_users_code(built: list[LogEntry]) -> None:
    template = Template().from_image(BASE).run_cmd("true").run_cmd("echo no such luck >&2; exit 7").run_cmd("true")
    with pytest.raises(BuildException, match="no such luck") as failed:
        Template.build(template, "e2b-broken")
    assert failed.traceback[-1].path == Path(__file__)


def test_a_base_that_is_out_of_reach_is_a_clear_error() -> None:
    with pytest.raises(BuildException, match=r"registry\.invalid"):
        Template.build(Template().from_image("registry.invalid/none:1"), "e2b-nowhere")
