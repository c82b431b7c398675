"""A CI runner for pull requests of strangers: each patch in a microVM of its own, from one snapshot.

python examples/runner/run.py --egress ARN [PATCH...]
"""

import argparse
import json
import time
from pathlib import Path

from emberbox_sdk import DeadlineError, Image, Sandbox

HERE = Path(__file__).parent
PATCHES = [HERE / "patches" / f"{name}.diff" for name in ("good", "wrong", "poison", "good")]
LOG_BYTES = 100_000

# Runs as the user `job`, in a copy of the checkout. The patch is its input.
JOB = """
cp -r /srv/project ~/work && cd ~/work || exit 100
patch -p1 --quiet || exit 101
exec python3 -m pytest -p no:cacheprovider -rA -q
"""

# All that a job might change for the next one: the checkout, what it needs, and what any user may write.
FINGERPRINT = """
find /srv /usr/local /usr/lib/python3/dist-packages /home /tmp /var/tmp /dev/shm -xdev -type f -print0 |
    sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-16
"""


def run_job(image, patch, options):
    """Return what became of one patch. The microVM is a launch of the image, never one that another job has used."""
    begun = time.monotonic()
    with Sandbox.create(image, egress=[options.egress], max_s=options.seconds + 300) as sandbox:
        launched = time.monotonic()
        found = fingerprint(sandbox)
        looked = time.monotonic()
        try:
            ended = sandbox.run(
                ["sh", "-c", JOB],
                user="job",
                stdin=patch.read_text(),
                env={"HOME": "/home/job", "PYTHONDONTWRITEBYTECODE": "1"},
                cwd="/home/job",
                timeout_s=options.seconds,
                keep_bytes=LOG_BYTES,
            )
            code, log = ended.exit_code, ended.stdout + ended.stderr
        except DeadlineError as error:
            code, log = None, f"{error}\n"
        tested = time.monotonic()
        result = {
            "patch": patch.stem,
            "microvm": sandbox.id,
            "exit_code": code,
            "found": found,
            "left": fingerprint(sandbox),
            "launch_s": round(launched - begun, 2),
            "job_s": round(tested - looked, 2),
        }
    return result, log


def fingerprint(sandbox):
    return sandbox.run(FINGERPRINT, user="root", check=True).stdout.strip()


def main():
    parser = argparse.ArgumentParser(description="Test patches of strangers, each in a microVM of its own.")
    parser.add_argument("patches", nargs="*", type=Path, default=PATCHES, metavar="PATCH", help="a diff, for patch -p1")
    parser.add_argument("--egress", required=True, metavar="ARN", help="the network connector that jobs have")
    parser.add_argument("--seconds", type=int, default=300, help="that the tests of a patch may take")
    parser.add_argument("--out", type=Path, help="a directory for logs and results")
    options = parser.parse_args()

    begun = time.monotonic()
    image = Image.build(HERE, name="example-runner")
    print(f"image    {image.name} {image.version}, {time.monotonic() - begun:.1f} s")
    for number, patch in enumerate(options.patches, 1):
        result, log = run_job(image, patch, options)
        verdict = {0: "passed", None: "stopped, too slow", 101: "does not apply"}.get(result["exit_code"], "failed")
        print(
            f"job {number}    {result['patch']:8} {verdict}; launch {result['launch_s']} s, tests {result['job_s']} s;"
            f" found {result['found']}, left {result['left']}"
        )
        for line in log.splitlines():
            if line.startswith(("attempt:", "FAILED", "PASSED")):
                print(f"         {line}")
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / f"{number}.log").write_text(log)
            (options.out / f"{number}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
