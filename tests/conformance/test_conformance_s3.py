"""The embedded S3 with AWS's command line and AWS's SDK for JavaScript, both unmodified."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.s3 import REGION, World, serve_s3

pytestmark = pytest.mark.conformance

SCRIPTS = Path(__file__).parent / "javascript"
TIMEOUT_S = 300


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with serve_s3(tmp_path_factory.mktemp("s3") / "home") as world:
        yield world


def environment(world: World, home: Path) -> dict[str, str]:
    who = world.home.operator
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "AWS_ENDPOINT_URL_S3": world.endpoint_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": who.access_key_id,
        "AWS_SECRET_ACCESS_KEY": who.secret_access_key,
    }


def test_the_command_line_makes_copies_syncs_presigns_and_removes(world: World, tmp_path: Path) -> None:
    def aws(*arguments: str) -> str:
        done = subprocess.run(
            ["aws", *arguments], env=environment(world, tmp_path), capture_output=True, text=True, timeout=TIMEOUT_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    large = os.urandom(20 << 20)
    for name, content in (("a", b"a"), ("deep/ü b", b"b"), ("large", large)):
        (tree / name).write_bytes(content)
    aws("s3", "mb", "s3://cli-bucket")
    aws("s3", "cp", str(tree / "large"), "s3://cli-bucket/one/large", "--metadata", "note=x")
    aws("s3", "sync", str(tree), "s3://cli-bucket/two")
    assert not aws("s3", "sync", str(tree), "s3://cli-bucket/two").strip()
    aws("s3", "cp", "s3://cli-bucket/one/large", "s3://cli-bucket/three/large")
    aws("s3", "mv", "s3://cli-bucket/two/a", "s3://cli-bucket/two/moved")
    listed = aws("s3", "ls", "--recursive", "s3://cli-bucket")
    assert [line.split(maxsplit=3)[3] for line in listed.splitlines()] == [
        "one/large",
        "three/large",
        "two/deep/ü b",
        "two/large",
        "two/moved",
    ]
    assert "PRE deep/" in aws("s3", "ls", "s3://cli-bucket/two/")
    aws("s3", "sync", "s3://cli-bucket/two", str(tmp_path / "back"))
    assert (tmp_path / "back/large").read_bytes() == large
    with urllib.request.urlopen(aws("s3", "presign", "s3://cli-bucket/two/moved").strip()) as answer:
        assert answer.read() == b"a"
    block = "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true"
    aws("s3api", "put-public-access-block", "--bucket", "cli-bucket", "--public-access-block-configuration", block)
    aws("s3api", "delete-public-access-block", "--bucket", "cli-bucket")
    tagged = ("--bucket", "cli-bucket", "--key", "two/moved")
    aws("s3api", "put-object-tagging", *tagged, "--tagging", "TagSet=[{Key=k,Value=v}]")
    aws("s3api", "delete-object-tagging", *tagged)
    assert aws("s3", "cp", "s3://cli-bucket/two/moved", "-") == "a"
    head = json.loads(aws("s3api", "head-object", "--bucket", "cli-bucket", "--key", "one/large"))
    assert head["Metadata"] == {"note": "x"}
    aws("s3", "rm", "--recursive", "s3://cli-bucket/one")
    aws("s3", "rb", "--force", "s3://cli-bucket")
    assert "cli-bucket" not in aws("s3", "ls")


def test_the_javascript_sdk_sends_texts_files_and_streams(world: World, packages: Path, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    for name in ("s3.mjs", "package.json"):
        shutil.copy(SCRIPTS / name, tmp_path)
    (tmp_path / "file").write_bytes(os.urandom(3 << 20))
    command = ["node", "s3.mjs", "js-bucket", "file", "4000000"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(world, tmp_path), capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "text": "text",
        "copy": "text",
        "tags": [{"Key": "k", "Value": "v"}],
        "whole": True,
        "encoding": None,
        "fileSize": 3 << 20,
        "refused": {"name": "PreconditionFailed", "status": 412},
        "keys": ["copy", "file", "stream", "text"],
        "deleted": 4,
    }
