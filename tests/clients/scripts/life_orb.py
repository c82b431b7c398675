"""Machines by the Python SDK of orb, which asks for microVMs; prints what it saw as JSON."""

import asyncio
import json
import sys

from orb import ORBClient


async def main():
    async with ORBClient(provider="aws") as sdk:
        templates = await sdk.list_templates(active_only=True)
        request = await sdk.request_machines(template_id=sys.argv[1], count=1)
        while True:
            status = await sdk.get_request_status(request_id=request["request_id"])
            if status["requests"][0]["status"] != "in_progress":
                break
            await asyncio.sleep(1)
        machine = status["requests"][0]["machines"][0]["machine_id"]
        shown = await sdk.get_machine(machine_id=machine)
        returned = await sdk.return_machines(machine_ids=[machine])
        seen = {
            "templates": [template["template_id"] for template in templates["templates"]],
            "status": status["requests"][0]["status"],
            "machine": machine,
            "shown": shown,
            "returned": returned,
        }
    print(json.dumps(seen, default=str))


asyncio.run(main())
