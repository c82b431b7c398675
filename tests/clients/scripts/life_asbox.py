"""A sandbox by asbox's own SDK; prints what it saw as JSON."""

import asyncio
import json
import sys

from agent_sandbox import Sandbox


async def main():
    image, role = sys.argv[1:]
    async with await Sandbox.create("by-sdk", image_arn=image, execution_role_arn=role) as sandbox:
        done = await sandbox.exec(
            "python3", ["-c", "import os; print(os.environ['WHO'], os.getcwd())"], cwd="/tmp", env={"WHO": "me"}
        )
        failed = await sandbox.exec("sh", ["-c", "echo bad >&2; exit 7"])
        await sandbox.write_file("/work/deep/file", b"\x00kept\xff")
        await sandbox.suspend()
        while str(await sandbox.refresh()) != "suspended":  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        await sandbox.start()
        seen = {
            "said": done.stdout_text,
            "failed": [failed.exit_code, failed.stderr_text],
            "kept": (await sandbox.read_file("/work/deep/file")).hex(),
            "state": str(await sandbox.refresh()),
            "inspected": (await sandbox.inspect())["microvmId"] == sandbox.microvm_id,
        }
    while str(await sandbox.refresh()) != "stopped":  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    print(json.dumps(seen))


asyncio.run(main())
