"""Snapshots over REST; one that was given no name has its template's and a version of it: `my-image:3.0`."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from emberbox.control.access.authorisation import Permission
from emberbox.control.sandboxes.snapshots import ListSnapshots, SandboxSnapshots, no_such_snapshot
from emberbox.edges.e2b.api.pages import read_page, show_page
from emberbox.edges.e2b.api.sandboxes import refuse_without_memory
from emberbox.edges.sandboxes.call import ANYTHING, Call, Json
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.model.templates import split_name
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
        name = call.text("name") if call.body.get("name") else ""
        return JSONResponse(self._show(await self._snapshots.take(call.caller, call.sandbox_id, name)), 201)

    async def list_all(self, call: Call) -> Response:
        """`GET /snapshots`."""
        call.allow(Permission("lambda:ListMicrovmImageVersions", ANYTHING))
        asked = ListSnapshots(read_page(call), call.request.query_params.get("sandboxID") or None)
        return show_page(self._snapshots.list_snapshots(call.caller, asked), self._show)

    async def delete(self, call: Call) -> Response:
        """`DELETE /templates/{id}`, of a snapshot alone."""
        name, tag = split_name(str(call.request.path_params["template_id"]))
        snapshot = self._snapshots.find(call.caller, name, tag)
        if snapshot is None and not tag:
            raise ApiError(400, "templates are images: delete them with AWS's API, DeleteMicrovmImage")
        if snapshot is None:
            raise no_such_snapshot(name, tag)
        call.allow(Permission("lambda:DeleteMicrovmImageVersion", snapshot.image_arn))
        await self._snapshots.delete(call.caller, snapshot)
        return Response(status_code=204)

    def _show(self, snapshot: Snapshot) -> Json:
        """Return a snapshot as a `SnapshotInfo`; the name that it got first is its id."""
        names = self._snapshots.names(snapshot)
        return {"snapshotID": names[0], "names": names}
