"""A server that the SDK speaks to without any network: answers by method and path, and what was asked."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx2

from emberbox_sdk import AsyncClient, Client, Config

CONFIG = Config("http://api.test", "AKID", "secret", s3_url="http://s3.test", gateway="gateway.test:9443", retries=2)
Answer = httpx2.Response | Callable[[httpx2.Request], httpx2.Response]


class Server:
    """Answers each request with the first of its answers that fits, and the last of them again and again."""

    def __init__(self) -> None:
        self.asked: list[httpx2.Request] = []
        self.answers: dict[tuple[str, str], list[Answer]] = {}

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """Say what requests whose path ends so are answered with, one after the other."""
        self.answers[method, path] = list(answers)

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.asked.append(request)
        for (method, path), answers in self.answers.items():
            if request.method == method and request.url.path.endswith(path):
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                return answer(request) if callable(answer) else again(answer)
        raise AssertionError(f"nobody expected {request.method} {request.url}")

    async def handle_async(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        return self.handle(request)

    def client(self, config: Config = CONFIG) -> Client:
        return Client(config, transport=httpx2.MockTransport(self.handle))

    def async_client(self, config: Config = CONFIG) -> AsyncClient:
        return AsyncClient(config, transport=httpx2.MockTransport(self.handle_async))


def again(answer: httpx2.Response) -> httpx2.Response:
    """Return a response that has not been read by anybody."""
    return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)


def members(content: dict[str, Any], status: int = 200) -> httpx2.Response:
    return httpx2.Response(status, json=content)


def refused(code: str, status: int, message: str = "no") -> httpx2.Response:
    return httpx2.Response(status, json={"message": message}, headers={"x-amzn-errortype": code})


def lines(*content: dict[str, Any]) -> httpx2.Response:
    return httpx2.Response(200, content="".join(json.dumps(line) + "\n" for line in content).encode())


def output(stream: str, data: bytes) -> dict[str, Any]:
    return {"type": stream, "data": base64.b64encode(data).decode()}


def exited(code: int = 0) -> dict[str, Any]:
    return {"type": "exit", "exitCode": code}


def token(value: str = "token") -> httpx2.Response:
    return members({"authToken": {"X-aws-proxy-auth": value}})


def microvm(state: str = "RUNNING", microvm_id: str = "mvm-1") -> dict[str, Any]:
    return {
        "microvmId": microvm_id,
        "state": state,
        "endpoint": "e.test",
        "imageArn": "arn:aws:lambda:us-east-1:1:microvm-image:hello",
        "imageVersion": "1.0",
        "startedAt": 1.5,
    }
