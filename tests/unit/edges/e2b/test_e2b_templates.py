"""E2B's own SDK against the edge: its template builder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from e2b import (
    AsyncTemplate,
    BuildException,
    BuildInfo,
    LogEntry,
    Sandbox,
    Template,
    TemplateBuildStatus,
    TemplateBuildStatusResponse,
    TemplateException,
    wait_for_port,
)

from emberbox.model.errors import BuildError, HostError
from support.e2b_world import E2bPlane
from support.waiting import wait_for

Wait = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_files(e2b: E2bPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake machine has no snapshots but those that it is told of."""

    def sizes(*_: Any) -> None:
        raise HostError("there is none")

    monkeypatch.setattr(e2b.control.builder, "_snapshots", SimpleNamespace(sizes=sizes))


def build(template: Any, name: str, **more: Any) -> BuildInfo:
    return Template.build(template, name, **more)


def ended(info: BuildInfo) -> TemplateBuildStatusResponse | None:
    found = Template.get_build_status(info)
    return found if found.status is TemplateBuildStatus.ERROR else None


def version_of(e2b: E2bPlane, sandbox: Sandbox) -> str:
    microvm = e2b.microvms.find(sandbox.sandbox_id)
    assert microvm is not None
    return microvm.image_version


async def test_a_template_becomes_an_image_that_sandboxes_are_launched_from(
    e2b: E2bPlane, wait: Wait, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    (context / "src").mkdir(parents=True)
    (context / "src" / "app.py").write_text("print(1)")
    (context / "one.txt").write_text("one")
    template = (
        Template(file_context_path=context)
        .from_image("registry.test/python:3")
        .set_envs({"A": 'b "c" $HOME'})
        .copy("src", "/app/src")
        .copy("*.txt", "/app", user="root", mode=0o640)
        .run_cmd("echo 'a\nb' > x", user="root")
        .set_workdir("/app")
        .set_start_cmd("python -m http.server 8000", wait_for_port(8000))
    )
    logs: list[LogEntry] = []

    info = await wait(lambda: build(template, "app", memory_mb=1000, on_build_logs=logs.append))

    (plan,) = e2b.builds.plans
    assert (plan.image_name, plan.image_id, plan.size.baseline_mib) == ("app", info.template_id, 1024)
    assert "Building the Dockerfile" in [line.message for line in logs]
    with e2b.s3.open_zip(plan.artifact_uri) as archive:
        names, dockerfile = set(archive.namelist()), archive.read("Dockerfile").decode()
        ready = archive.read("scripts/ready").decode()
    files = {name.split("/", 2)[2] for name in names if name.startswith("files/")}
    assert {"src/app.py", "one.txt"} <= files
    assert dockerfile.startswith("FROM registry.test/python:3\n")
    assert 'ENV A="b \\"c\\" $HOME"' in dockerfile
    assert "COPY --chown=root --chmod=0640 [" in dockerfile
    assert "sport = :8000" in ready
    sandbox = await wait(Sandbox.create, "app")
    assert (await wait(sandbox.get_info)).template_id == info.template_id


async def test_files_that_are_there_are_not_uploaded_again(e2b: E2bPlane, wait: Wait, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    template = Template(file_context_path=tmp_path).from_image("debian:12").copy("a", "/a")
    for _ in range(2):
        await wait(build, template, "twice")
    assert e2b.s3.puts == 1
    await wait(
        lambda: build(
            Template(file_context_path=tmp_path).from_base_image().copy("a", "/a", force_upload=True), "twice"
        )
    )
    assert e2b.s3.puts == 2


async def test_tags_lead_to_builds(e2b: E2bPlane, wait: Wait) -> None:
    template = Template().from_image("debian:12")
    first = await wait(build, template, "app:v1")
    second = await wait(lambda: build(template, "app", tags=["v2", "stable"]))
    plain = await wait(build, template, "app")
    assert first.template_id == second.template_id == plain.template_id
    for name, version in (("app:v1", "1.0"), ("app:stable", "2.0"), ("app", "3.0"), (first.template_id, "3.0")):
        assert version_of(e2b, await wait(Sandbox.create, name)) == version
    await wait(Template.assign_tags, "app:v1", ["stable"])
    assert version_of(e2b, await wait(Sandbox.create, "app:stable")) == "1.0"
    tags = {tag.tag: tag.build_id for tag in await wait(Template.get_tags, "app")}
    assert tags == {"v1": first.build_id, "v2": second.build_id, "stable": first.build_id, "default": plain.build_id}
    await wait(Template.remove_tags, "app", ["v2"])
    with pytest.raises(TemplateException, match="no tag v2"):
        await wait(Template.remove_tags, "app", "v2")
    assert await wait(Template.exists, "app")
    assert not await wait(Template.exists, "other")


async def test_a_name_without_a_tag_leads_to_the_last_build_that_worked(e2b: E2bPlane, wait: Wait) -> None:
    template = Template().from_image("debian:12")
    await wait(build, template, "app")
    e2b.builds.error = BuildError("CONTAINER_BUILD_FAILED", "no")
    with pytest.raises(BuildException):
        await wait(build, template, "app")
    assert version_of(e2b, await wait(Sandbox.create, "app")) == "1.0"


async def test_a_step_that_fails_is_named_with_the_end_of_the_log(e2b: E2bPlane, wait: Wait) -> None:
    template = Template().from_image("debian:12").run_cmd("true").run_cmd("false")
    e2b.builds.lines = [f"STEP {number}/12: RUN it" for number in range(1, 8)] + ["it says no"]
    e2b.builds.error = BuildError("CONTAINER_BUILD_FAILED", "the Dockerfile's build failed")
    info = await wait(Template.build_in_background, template, "app")

    found = await wait(lambda: wait_for("it has failed", lambda: ended(info), 30))
    assert found.reason.step == "2"
    assert found.reason.message.startswith("CONTAINER_BUILD_FAILED")
    assert "it says no" in found.reason.message


async def test_logs_are_given_in_pages(e2b: E2bPlane, wait: Wait) -> None:
    e2b.builds.lines = [f"line {number}" for number in range(250)]
    logs: list[LogEntry] = []
    await wait(lambda: build(Template().from_image("debian:12"), "app", on_build_logs=logs.append))
    assert [line.message for line in logs if line.message.startswith("line ")] == e2b.builds.lines


async def test_a_template_is_built_on_another(e2b: E2bPlane, wait: Wait) -> None:
    below = Template().from_image("debian:12").run_cmd("echo below").set_start_cmd("sleep 1", "true")
    await wait(build, below, "below")
    await wait(build, Template().from_template("below").run_cmd("echo above"), "above")
    with e2b.s3.open_zip(e2b.builds.plans[-1].artifact_uri) as archive:
        dockerfile = archive.read("Dockerfile").decode()
        assert archive.read("scripts/start-command") == b"sleep 1\n"
    assert dockerfile.index("echo below") < dockerfile.index("echo above")
    with pytest.raises(BuildException, match="not built by E2B's template builder"):
        await wait(build, Template().from_template("standard"), "other")
    with pytest.raises(BuildException, match="'none' not found"):
        await wait(build, Template().from_template("none"), "other")


async def test_what_e2b_has_for_everybody_is_made_of_the_local_base(e2b: E2bPlane, wait: Wait) -> None:
    await wait(build, Template().from_base_image(), "own")
    await wait(build, Template().from_template("code-interpreter-v1"), "code-interpreter-v1")
    for plan, package in zip(e2b.builds.plans, ("sudo", "python3-matplotlib"), strict=True):
        with e2b.s3.open_zip(plan.artifact_uri) as archive:
            dockerfile = archive.read("Dockerfile").decode()
        assert dockerfile.startswith("FROM emberbox/debian:12\n")
        assert package in dockerfile


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (Template().from_image("a b"), "no name of a container image"),
        (Template().from_image("debian").set_user("a b"), "no name of a user"),
        (Template().from_image("debian").set_envs({"A": "b\nc"}), "one line"),
        (Template().from_image("debian").run_cmd("x" * 60_000), "at most 50000 bytes"),
        (Template().from_image("r.test/a", username="u", password="p"), "EMBERBOX_REGISTRY_AUTH"),
    ],
)
async def test_what_cannot_be_built_is_said(e2b: E2bPlane, wait: Wait, template: Any, told: str) -> None:
    with pytest.raises(BuildException, match=told):
        await wait(build, template, "app")
    assert e2b.builds.plans == []


async def test_sizes_that_there_are_not_and_names_that_are_none_are_refused(e2b: E2bPlane, wait: Wait) -> None:
    template = Template().from_image("debian:12")
    for name, size, told in (("app", {"memory_mb": 9000}, "8192 MiB"), ("a b", {}, "letters"), ("a:b c", {}, "tag")):
        with pytest.raises(BuildException, match=told):
            await wait(lambda name=name, size=size: build(template, name, **size))


async def test_uploads_that_are_no_archives_or_too_large_fail_at_their_step(
    e2b: E2bPlane, wait: Wait, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(b"x" * (2 << 20))
    template = Template(file_context_path=tmp_path).from_image("debian:12").run_cmd("true").copy("big", "/a")
    with pytest.raises(BuildException, match="too large together"):
        await wait(build, template, "app")
    for upload in e2b.s3.path("x").parent.glob("*/uploads/*"):
        upload.write_bytes(b"no archive")
    with pytest.raises(BuildException, match="no tar archive"):
        await wait(build, template, "app")


async def test_the_builder_for_asyncio_does_the_same(e2b: E2bPlane) -> None:
    info = await AsyncTemplate.build(AsyncTemplate().from_image("debian:12"), "app")
    assert (await AsyncTemplate.get_build_status(info)).status is TemplateBuildStatus.READY
    assert len(e2b.builds.plans) == 1


async def test_every_kind_of_step_has_a_line(e2b: E2bPlane, wait: Wait, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    template = (
        Template(file_context_path=tmp_path)
        .from_python_image("3.12")
        .apt_install(["git", "curl"])
        .pip_install("flask")
        .npm_install("express", g=True)
        .make_dir("/d", mode=0o755)
        .make_symlink("/d", "/e")
        .copy_items([{"src": "a", "dest": "/d/"}])
        .rename("/d/a", "/d/b")
        .remove("/d/b", force=True)
        .git_clone("https://git.test/repo", "/repo", depth=1)
        .skip_cache()
        .set_user("root")
        .set_ready_cmd("test -d /d")
    )
    await wait(build, template, "steps")
    with e2b.s3.open_zip(e2b.builds.plans[-1].artifact_uri) as archive:
        dockerfile = archive.read("Dockerfile").decode()
        assert archive.read("scripts/ready").decode().endswith("test -d /d\n")
    assert dockerfile.startswith("FROM python:3.12\n")
    for part in ("apt-get install", "pip install flask", "npm install -g express", "mkdir -p -m 0755 /d", "git clone"):
        assert part in dockerfile
    assert dockerfile.rstrip().splitlines()[-5] == "USER root"


async def test_a_dockerfile_is_taken(e2b: E2bPlane, wait: Wait) -> None:
    text = 'FROM debian:12\nENV A=1\nRUN echo $A\nWORKDIR /w\nUSER root\nCMD ["sleep", "1"]\n'
    await wait(build, Template().from_dockerfile(text), "dockerfile")
    with e2b.s3.open_zip(e2b.builds.plans[-1].artifact_uri) as archive:
        assert archive.read("scripts/start-command") == b"sleep 1\n"
        assert "echo $A" in archive.read("Dockerfile").decode()
