"""What is known of the requests at endpoints, from before the gateway serves to after it has ended.

It is made first, since the owners of microVMs need it: a suspend waits for requests that have just begun (`drain`).
"""

from __future__ import annotations

from emberbox.edges.gateway.directory import Directory
from emberbox.edges.gateway.proxy.admissions import Admissions
from emberbox.edges.gateway.proxy.tls_ports import TlsPorts
from emberbox.edges.gateway.proxy.traffic import Traffic


class Watch:
    """Tells endpoints what crosses them.

    Attributes:
        directory: finds the endpoints.
        admissions: let requests pass that are like one which has passed; whoever made them revokes them.
        tls_ports: knows which ports of guests speak TLS.
        traffic: counts what is open.

    Args:
        directory: see above.
        admissions: see above.
    """

    def __init__(self, directory: Directory, admissions: Admissions) -> None:
        self.directory = directory
        self.admissions = admissions
        self.tls_ports = TlsPorts()
        self.traffic = Traffic(self._note_bytes, self._look_again, admissions)

    def _note_bytes(self, microvm_id: str, *, from_client: bool) -> None:
        endpoint = self.directory.find(microvm_id)
        if endpoint is not None:
            endpoint.note_bytes(from_client=from_client)

    def _look_again(self, microvm_id: str, port: int) -> None:
        self.tls_ports.forget(microvm_id, port)
        endpoint = self.directory.find(microvm_id)
        if endpoint is not None:
            endpoint.doubt(port)
        self.admissions.revoke(microvm_id)
