"""MicroVMs as a test sees them: launched by the API, spoken to through the gateway."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from emberbox.time_limits import limit_s
from support.aws import Clients
from support.images import Image
from support.server import Server
from support.waiting import PATIENCE_S, wait_for

TOKEN_HEADER = "X-aws-proxy-auth"
PORT_HEADER = "X-aws-proxy-port"
ALL_PORTS = [{"allPorts": {}}]


class Gateway:
    """An HTTP client of a server's gateway; it trusts the server's own authority and nobody else."""

    def __init__(self, server: Server, clients: Clients) -> None:
        self.clients = clients
        self.server = server
        context = ssl.create_default_context(cafile=server.endpoints["ca_bundle"])
        self.http = httpx.Client(verify=context, trust_env=False, timeout=limit_s(60))

    def close(self) -> None:
        """Close all connections."""
        self.http.close()

    def request(self, method: str, endpoint: str, path: str, headers: dict[str, str], content: str) -> httpx.Response:
        """Send a request to an endpoint; its name is in TLS and in Host, and need not resolve here."""
        name = urlsplit(f"//{endpoint}").hostname or ""
        return self.http.request(
            method,
            f"https://{self.server.endpoints['gateway']}{path}",
            headers={"Host": endpoint, **headers},
            content=content,
            extensions={"sni_hostname": name},
        )


@dataclass
class Microvm:
    """One microVM."""

    id: str
    endpoint: str
    gateway: Gateway
    token: str = ""

    @classmethod
    def launch(cls, gateway: Gateway, image: Image, **parameters: Any) -> Microvm:
        """Call RunMicrovm."""
        answer = gateway.clients.microvms.run_microvm(imageIdentifier=image.arn, **parameters)
        assert answer["state"] == "PENDING"
        return cls(answer["microvmId"], answer["endpoint"], gateway)

    @property
    def api(self) -> Any:
        """The API's client."""
        return self.gateway.clients.microvms

    @property
    def vmm_pid(self) -> int:
        """The process id of its VMM."""
        return self.gateway.server.vmm_pid(self.id)

    def describe(self) -> dict[str, Any]:
        """Call GetMicrovm."""
        described: dict[str, Any] = self.api.get_microvm(microvmIdentifier=self.id)
        return described

    def state(self) -> str:
        """Return its state."""
        return str(self.describe()["state"])

    def wait_state(self, *states: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until it is in one of the states; a state that it can never leave ends the waiting."""

        def reached() -> dict[str, Any] | None:
            described = self.describe()
            if described["state"] in states:
                return described
            assert described["state"] != "TERMINATED", described.get("stateReason")
            return None

        return wait_for(f"{self.id} is {' or '.join(states)}", reached, timeout_s)

    def wait_settled(self) -> dict[str, Any]:
        """Wait until it is in a state in which it may stay."""

        def settled() -> dict[str, Any] | None:
            described = self.describe()
            return described if described["state"] in ("RUNNING", "SUSPENDED", "TERMINATED") else None

        return wait_for(f"{self.id} has settled", settled)

    def wait_ended(self, timeout_s: float = PATIENCE_S) -> str:
        """Wait until it is TERMINATED and return why."""
        described = self.wait_state("TERMINATED", timeout_s=timeout_s)
        assert described["terminatedAt"] is not None
        return str(described["stateReason"])

    def suspend(self) -> None:
        """Call SuspendMicrovm."""
        self.api.suspend_microvm(microvmIdentifier=self.id)

    def resume(self) -> None:
        """Call ResumeMicrovm."""
        self.api.resume_microvm(microvmIdentifier=self.id)

    def terminate(self) -> None:
        """Call TerminateMicrovm."""
        self.api.terminate_microvm(microvmIdentifier=self.id)

    def mint(self, ports: Iterable[dict[str, Any]] = ALL_PORTS) -> str:
        """Return a new token."""
        answer = self.api.create_microvm_auth_token(
            microvmIdentifier=self.id, expirationInMinutes=60, allowedPorts=list(ports)
        )
        return str(answer["authToken"][TOKEN_HEADER])

    def request(
        self, method: str = "GET", path: str = "/", *, port: int | None = None, content: str = "", token: str = ""
    ) -> httpx.Response:
        """Send a request through the gateway."""
        if not token and not self.token:
            self.token = self.mint()
        headers = {TOKEN_HEADER: token or self.token, **({} if port is None else {PORT_HEADER: str(port)})}
        return self.gateway.request(method, self.endpoint, path, headers, content)

    def get(self, path: str = "/", port: int | None = None) -> Any:
        """Return the JSON that the application answers."""
        answer = self.request("GET", path, port=port)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        return answer.json()

    def shell(self, command: str) -> str:
        """Run a command in a microVM of the probe image, as root, and return its output and exit code."""
        answer = self.request("POST", "/sh", content=command)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        return answer.text

    def shell_code(self, command: str) -> int:
        """Run a command in a microVM of the probe image and return its exit code."""
        return int(self.request("POST", "/sh", content=command).headers["x-exit-code"])


def again(microvm: Microvm, gateway: Gateway) -> Microvm:
    """Return the same microVM as the restarted server knows it; the gateway's port is part of its endpoint."""
    endpoint = gateway.clients.microvms.get_microvm(microvmIdentifier=microvm.id)["endpoint"]
    assert endpoint.partition(":")[0] == microvm.endpoint.partition(":")[0]
    return Microvm(microvm.id, endpoint, gateway, token=microvm.token)
