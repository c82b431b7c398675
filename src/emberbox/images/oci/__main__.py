"""`python -m emberbox.images.oci JOB`: gather and judge an image, in a process that may fall without harm.

It is told by a JSON file, and prints lines of the build's log, each after a blank, and at the end one that begins with
`=`: the outcome as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any, Final

from emberbox.images.oci.archives import opened
from emberbox.images.oci.credentials import find_login
from emberbox.images.oci.layers import Budget
from emberbox.images.oci.layout import write_layout
from emberbox.images.oci.registry import Access, Registry
from emberbox.model.errors import BuildError, HostError
from emberbox.model.image_references import parse_image_uri

_MEMORY_BYTES: Final = 2 << 30
_DETAIL_MAX: Final = 2000  # it may quote what the image says


def main(arguments: list[str]) -> int:
    """Do the job and print its outcome."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    try:
        gather(json.loads(Path(arguments[0]).read_text()))
        outcome = {}
    except BuildError as error:
        outcome = {"reason": error.reason, "detail": error.detail[:_DETAIL_MAX]}
    except HostError as error:
        outcome = {"failed": str(error)[:_DETAIL_MAX]}
    _print(f"={json.dumps(outcome)}")
    return 0


def gather(job: dict[str, Any]) -> None:
    """Make a layout of what a job names.

    Raises:
        BuildError: the image is not as it should be, or cannot be had.
        HostError: the operator's file of logins cannot be read.
    """
    layout, budget = Path(job["layout"]), Budget(job["unpacked_bytes"])
    if "uri" not in job:
        archive = Path(job["archive"])  # as large as an artifact may be; what is in it may be compressed once more
        with opened(archive, archive.with_name("unpacked"), job["unpacked_bytes"]) as source:
            write_layout(source, layout, job["platform"], job["unpacked_bytes"], budget, _say)
        return
    reference = parse_image_uri(job["uri"])
    login = find_login(Path(job["logins"]), reference.registry) if job["logins"] else None
    access = Access(job["is_plain"], job["is_direct"], login)
    source, is_base = Registry(reference, access), job["is_base"]
    write_layout(source, layout, job["platform"], job["packed_bytes"], budget, _say, is_base=is_base)


def _say(line: str) -> None:
    _print(f" {line}")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
