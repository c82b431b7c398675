"""A malware scan: each file is run in a microVM of its own without a way out, under strace, and reported on."""

import argparse
import hashlib
import json
import time
from pathlib import Path

from behaviour import report

from emberbox_sdk import Client, DeadlineError, Image, Sandbox

HERE = Path(__file__).parent
TRACE, SAMPLE = "/root/trace", "/srv/sample"
MOST_BYTES = 16 << 20
begun = time.monotonic()


def say(text):
    print(f"{time.monotonic() - begun:7.2f} s  {text}", flush=True)


def scan(path, image, egress, limit_s, client):
    """Run a file in a fresh sandbox, end that, and return the report."""
    with Sandbox.create(image, egress=[egress], max_s=600, client=client) as sandbox:
        sandbox.files.write(SAMPLE, path, mode=0o755)
        try:
            ended = sandbox.run(["strace", "-f", "-qq", "-s", "256", "-o", TRACE, SAMPLE], timeout_s=limit_s).exit_code
        except DeadlineError:
            ended = f"stopped after {limit_s:g} s"
        traced = sandbox.run(["head", "-c", str(MOST_BYTES), TRACE], check=True).stdout
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "sha256": digest, "microvm": sandbox.id, "ended": ended, **report(traced, SAMPLE)}


def summarise(found):
    calls, files = sum(found["system_calls"].values()), found["files"]
    counts = f"{calls} system calls, {len(files['read'])} files read, {len(files['written'])} written"
    say(f"{found['file']}: {'SUSPICIOUS' if found['suspicious'] else 'nothing suspicious'} ({found['microvm']})")
    print(f"{'':11}{counts}, {found['child_processes']} child processes; ended: {found['ended']}")
    for line in found["suspicious"]:
        print(f"{'':11}- {line}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="what to scan; the samples when missing")
    parser.add_argument("--limit", type=float, default=10, help="seconds that a file may run")
    parser.add_argument("--egress", required=True, metavar="ARN", help="a network connector that lets nothing pass")
    parser.add_argument("--report", type=Path, default=Path("report.json"), help="where the report goes")
    options = parser.parse_args()
    files = options.files or sorted((HERE / "samples").iterdir())

    with Client() as client:
        image = Image.build(HERE, name="example-scan", client=client)
        say(f"image {image.name} {image.version} is there")
        reports = []
        for path in files:
            reports.append(scan(path, image, options.egress, options.limit, client))
            summarise(reports[-1])
    options.report.write_text(json.dumps(reports, indent=1))
    say(f"{len(reports)} files, {sum(bool(one['suspicious']) for one in reports)} suspicious: {options.report}")


if __name__ == "__main__":
    main()
