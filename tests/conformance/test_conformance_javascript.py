"""AWS's SDK for JavaScript, unmodified, from npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.images import Image
from support.server import Server

pytestmark = [pytest.mark.conformance, pytest.mark.vm]

SCRIPTS = Path(__file__).parent / "javascript"
RUN_TIMEOUT_S = 300


@pytest.mark.rule(
    "CreateMicrovmAuthToken",
    "GetMicrovm",
    "ListMicrovms",
    "ListTags",
    "ResumeMicrovm",
    "RunMicrovm",
    "SuspendMicrovm",
    "TagResource",
    "TerminateMicrovm",
    "UntagResource",
)
def test_the_javascript_sdk_goes_through_the_life_of_a_microvm(
    packages: Path, tmp_path: Path, server: Server, probe_image: Image
) -> None:
    """It runs, suspends, resumes, terminates, pages, tags, and gets the modelled exception."""
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    for name in ("life.mjs", "package.json"):
        shutil.copy(SCRIPTS / name, tmp_path)
    credentials = server.credentials()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": server.endpoints["api_url"],
        "AWS_REGION": credentials["region_name"],
        "AWS_ACCESS_KEY_ID": credentials["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": credentials["aws_secret_access_key"],
    }
    command = ["node", "life.mjs", probe_image.arn]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=RUN_TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["states"] == ["PENDING", "RUNNING", "SUSPENDED", "RUNNING", "TERMINATED"]
    assert (seen["reason"], seen["startedAt"], seen["token"]) == ("Success.", True, ["X-aws-proxy-auth"])
    assert seen["listed"].count(seen["id"]) == 1
    assert seen["tags"]["made-by"] == "javascript"
    missing = {"name": "ResourceNotFoundException", "status": 404, "message": "MicroVM not found: microvm-none"}
    assert seen["error"] == missing
