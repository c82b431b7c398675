"""The tools of asbox's MCP server, called by the MCP SDK over stdio; prints their answers as JSON."""

import asyncio
import json
import os
import sys
from pathlib import Path

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

NAME = "by-mcp"
STEPS = [
    ("runtime_check", {}),
    ("runtime_install", {}),
    ("infra_list", {}),
    ("infra_outputs", {}),
    ("image_list", {}),
    ("image_list", {"managed": True}),
    ("image_inspect", {"image_arn": "IMAGE"}),
    ("image_remove", {"image_arn": "IMAGE"}),
    ("image_prune", {}),
    ("sandbox_run", {"command": "echo once"}),
    ("sandbox_create", {"name": NAME}),
    ("sandbox_exec", {"name": NAME, "command": "python3", "args": ["-c", "print(6 * 7)"]}),
    ("sandbox_shell", {"name": NAME, "command": "echo $((40 + 2))"}),
    ("sandbox_fs_write", {"name": NAME, "path": "/work/a", "content": "text"}),
    ("sandbox_fs_read", {"name": NAME, "path": "/work/a"}),
    ("sandbox_fs_mkdir", {"name": NAME, "path": "/work/d"}),
    ("sandbox_fs_copy", {"name": NAME, "src": "/work/a", "dst": "/work/d/b"}),
    ("sandbox_fs_rename", {"name": NAME, "src": "/work/d/b", "dst": "/work/d/c"}),
    ("sandbox_fs_stat", {"name": NAME, "path": "/work/d/c"}),
    ("sandbox_fs_list", {"name": NAME, "path": "/work/d"}),
    ("sandbox_fs_remove", {"name": NAME, "path": "/work/a"}),
    ("sandbox_fs_exists", {"name": NAME, "path": "/work/a"}),
    ("sandbox_fs_copy_from_host", {"name": NAME, "host_path": "HERE/in", "dest": "/work/host"}),
    ("sandbox_fs_copy_to_host", {"name": NAME, "src": "/work/host", "host_path": "HERE/out"}),
    ("sandbox_stop", {"name": NAME}),
    ("sandbox_wait", {"name": NAME, "target": "suspended"}),
    ("sandbox_start", {"name": NAME}),
    ("sandbox_list", {}),
    ("sandbox_status", {"name": NAME}),
    ("sandbox_inspect", {"name": NAME}),
    ("sandbox_metrics", {"name": NAME}),
    ("sandbox_metrics_all", {}),
    ("sandbox_metrics_stream", {"name": NAME, "samples": 1}),
    ("sandbox_logs_read", {"name": NAME}),
    ("sandbox_logs_stream", {"name": NAME}),
    ("sandbox_remove", {"name": NAME}),
]


async def main():
    image, here = sys.argv[1], Path.cwd() / "host"
    here.mkdir(exist_ok=True)
    (here / "in").write_text("of the host")
    server = StdioServerParameters(
        command=str(Path(sys.executable).parent / "agent-sandbox-mcp"),
        env={**os.environ, "AGENT_SANDBOX_MCP_HOST_PATHS": str(here)},
    )
    answers = []
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        tools = sorted(tool.name for tool in (await session.list_tools()).tools)
        for name, arguments in STEPS:
            filled = json.loads(json.dumps(arguments).replace("IMAGE", image).replace("HERE", str(here)))
            answer = await session.call_tool(name, filled)
            answers.append([name, json.loads(answer.content[0].text)])
    print(json.dumps({"tools": tools, "answers": answers, "out": (here / "out").read_text()}))


asyncio.run(main())
