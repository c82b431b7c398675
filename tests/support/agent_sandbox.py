"""The guest that vmnest and asbox bring along, on a base and with packages that need no registry in the build."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

# Its own begins with python:3.12-slim and fetches packages: from registries that a closed network has not.
DOCKERFILE = """\
FROM emberbox/debian:12
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/agentd
COPY . ./
RUN pip install --break-system-packages --no-index --find-links wheels fastapi uvicorn pydantic
ENV AGENTD_PORT=8080 AGENTD_HOOK_PORT=9000 PYTHONUNBUFFERED=1
EXPOSE 8080 9000
CMD ["python3", "-m", "agentd.serve"]
"""


def copy_guest(programs: Path, place: Path) -> None:
    """Copy the guest out of an installed client, with the wheels of its packages beside it.

    Args:
        programs: the directory of the client's programs.
        place: the directory to make.
    """
    (bundled,) = programs.parent.glob("lib/python*/site-packages/agent_sandbox/_bundled_guest")
    shutil.copytree(bundled, place, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "Dockerfile").write_text(DOCKERFILE)
    wanted = ["--only-binary=:all:", "--python-version=3.11", "--dest", str(place / "wheels")]
    download = [sys.executable, "-m", "pip", "download", "--quiet", *wanted, "fastapi", "uvicorn", "pydantic"]
    subprocess.run(download, check=True, timeout=600, capture_output=True)
