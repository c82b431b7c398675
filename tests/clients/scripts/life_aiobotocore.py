"""Three microVMs at once by aiobotocore, and their endpoints by aiohttp; prints what it saw as JSON."""

import asyncio
import json
import ssl
import sys

import aiohttp
from aiobotocore.session import get_session


async def wait_for(client, microvm_id, state):
    while (found := await client.get_microvm(microvmIdentifier=microvm_id))["state"] != state:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return found


async def live(client, http, image):
    run = await client.run_microvm(imageIdentifier=image)
    which = {"microvmIdentifier": run["microvmId"]}
    await wait_for(client, run["microvmId"], "RUNNING")
    token = await client.create_microvm_auth_token(**which, expirationInMinutes=5, allowedPorts=[{"port": 8080}])
    counts = []
    for action in (None, client.suspend_microvm, client.resume_microvm):
        if action:
            await action(**which)
        if action != client.suspend_microvm:
            async with http.get(f"https://{run['endpoint']}/", headers=token["authToken"]) as answer:
                counts.append((await answer.json(content_type=None))["count"])
    await client.terminate_microvm(**which)
    return counts, (await wait_for(client, run["microvmId"], "TERMINATED"))["state"]


async def main():
    session, image = get_session(), sys.argv[1]
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
    async with (
        session.create_client("lambda-microvms") as client,
        session.create_client("s3") as s3,
        session.create_client("sts") as sts,
        aiohttp.ClientSession(connector=connector) as http,
    ):
        lives = await asyncio.gather(*(live(client, http, image) for _ in range(3)))
        pages = [page async for page in client.get_paginator("list_microvms").paginate(maxResults=1)]
        await s3.create_bucket(Bucket="aiobotocore")
        await s3.put_object(Bucket="aiobotocore", Key="k", Body=b"x" * 1000)
        body = (await s3.get_object(Bucket="aiobotocore", Key="k"))["Body"]
        try:
            await client.get_microvm(microvmIdentifier="microvm-none")
        except client.exceptions.ResourceNotFoundException as error:
            refused = error.response["Error"]["Code"]
        print(
            json.dumps(
                {
                    "lives": lives,
                    "pages": len(pages),
                    "size": len(await body.read()),
                    "account": (await sts.get_caller_identity())["Account"],
                    "refused": refused,
                }
            )
        )


asyncio.run(main())
