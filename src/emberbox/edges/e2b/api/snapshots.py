"""Snapshots over REST; one is named by its template and a version of it: `my-image:3.0`."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from emberbox.control.access.authorisation import Permission
from emberbox.control.requests.paging import PageRequest
from emberbox.control.sandboxes.snapshots import ListSnapshots, SandboxSnapshots
from emberbox.edges.e2b.api.call import ANYTHING, Call, Json
from emberbox.edges.e2b.api.sandboxes import NEXT_TOKEN_HEADER, PAGE_MAX, refuse_without_memory
from emberbox.edges.e2b.errors import ApiError
from emberbox.store.snapshots import Snapshot


class SnapshotHandlers:
    """Answers requests for snapshots.

    Args:
        snapshots: answers.
    """

    def __init__(self, snapshots: SandboxSnapshots) -> None:
        self._snapshots = snapshots

    async def take(self, call: Call) -> Response:
        """`POST /sandboxes/{id}/snapshots`."""
        call.allow_on_sandbox("emberbox:SnapshotMicrovm")
        refuse_without_memory(call)
        if call.body.get("name"):
            raise ApiError(400, "name: a snapshot is named by its template and a version here; keep what is returned")
        return JSONResponse(show(await self._snapshots.take(call.caller, call.sandbox_id)), 201)

    async def list_all(self, call: Call) -> Response:
        """`GET /snapshots`."""
        call.allow(Permission("lambda:ListMicrovmImageVersions", ANYTHING))
        query = call.request.query_params
        limit = query.get("limit", str(PAGE_MAX))
        if not limit.isdigit() or not 1 <= int(limit) <= PAGE_MAX:
            raise ApiError(400, f"limit must be 1 to {PAGE_MAX}")
        asked = ListSnapshots(PageRequest(int(limit), query.get("nextToken") or None), query.get("sandboxID") or None)
        page = self._snapshots.list_snapshots(call.caller, asked)
        headers = {NEXT_TOKEN_HEADER: page.next_token} if page.next_token else None
        return JSONResponse([show(snapshot) for snapshot in page.items], headers=headers)

    async def delete(self, call: Call) -> Response:
        """`DELETE /templates/{id}`, of a snapshot alone."""
        name, _, version = str(call.request.path_params["template_id"]).rpartition("/")[2].partition(":")
        if not version:
            raise ApiError(400, "templates are images: delete them with AWS's API, DeleteMicrovmImage")
        snapshot = self._snapshots.find(call.caller, name, version)
        call.allow(Permission("lambda:DeleteMicrovmImageVersion", snapshot.image_arn))
        await self._snapshots.delete(call.caller, snapshot)
        return Response(status_code=204)


def show(snapshot: Snapshot) -> Json:
    """Return a snapshot as a `SnapshotInfo`."""
    name = f"{snapshot.image_name}:{snapshot.version}"
    return {"snapshotID": name, "names": [name]}
