"""The operations on microVMs."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from emberbox.control.access.quotas import Quotas
from emberbox.control.connectors.egress import EgressRules
from emberbox.control.endpoints.tokens import PortGrant, TokenKeys
from emberbox.control.microvms.commands import CreateAuthToken, CreateShellAuthToken, ListMicrovms, RunMicrovm
from emberbox.control.microvms.launcher import Launcher
from emberbox.control.microvms.runner import ENDED_BY_CALLER, MicrovmRunner
from emberbox.control.microvms.runners import Runners
from emberbox.control.requests.idempotency import find_made, note_made
from emberbox.control.requests.paging import Page, PageTokens
from emberbox.machine.base import Left, Machine, Room
from emberbox.model.arns import new_microvm_id
from emberbox.model.caller import Caller
from emberbox.model.clock import Instant
from emberbox.model.errors import ConflictError, NotFoundError, ValidationError
from emberbox.model.hooks import HookName
from emberbox.model.iam.quotas import MEMORY
from emberbox.model.launch_requests import MAX_DURATION_S, Ingress, LaunchRequest
from emberbox.model.records import Image, ImageVersion, ListedMicrovm, Microvm
from emberbox.model.states import (
    LAUNCHABLE_IMAGE_STATES,
    VERDICTS,
    Action,
    MicrovmState,
    Verdict,
    VersionState,
    VersionStatus,
)
from emberbox.store.client_tokens import ClientTokenStore
from emberbox.store.images import ImageStore
from emberbox.store.microvms import MicrovmStore

TOKEN_MINUTES_MAX: Final = 60
SHELL_PORT: Final = 8022


class MicrovmService:
    """Answers the microVM operations.

    Args:
        store: the rows.
        images: asked what can be launched.
        runners: the microVMs that have not ended.
        launcher: launches new ones.
        machine: asked for one that is prepared.
        client_tokens: earlier requests.
        page_tokens: for the list.
        token_keys: for endpoint tokens.
        egress: checks egress connectors.
        quotas: the limits of accounts.
        room: the room on the machine's disk.
        region: the region played.
    """

    def __init__(
        self, *, store: MicrovmStore, images: ImageStore, runners: Runners, launcher: Launcher, machine: Machine,
        client_tokens: ClientTokenStore, page_tokens: PageTokens, token_keys: TokenKeys, egress: EgressRules,
        quotas: Quotas, room: Room, region: str,
    ) -> None:  # fmt: skip
        self._store = store
        self._images = images
        self._client_tokens = client_tokens
        self._page_tokens = page_tokens
        self._token_keys = token_keys
        self._egress = egress
        self._quotas = quotas
        self._region = region
        self._runners = runners
        self._launcher = launcher
        self._machine = machine
        self._room = room

    def forget_terminated(self, older_than_s: float) -> None:
        """Remove rows of microVMs that ended so long ago."""
        self._store.forget_terminated(datetime.now(UTC) - timedelta(seconds=older_than_s))

    async def run(self, caller: Caller, asked: RunMicrovm) -> Microvm:
        """Store a new microVM, launch it in the background, and return it as it is now: PENDING.

        Raises:
            ServiceError: it may not be launched, or not so.
        """
        earlier = find_made(self._client_tokens, caller, asked.client_request, partial(self.find_shown, caller))
        if earlier is not None:
            return earlier
        image, version = self._find_launchable(caller, asked)
        request = self._check_run(caller, asked, version)
        self.check_memory(caller, version)
        self.check_room("A MicroVM cannot be launched")
        prepared = self._machine.take_prepared(image.id, version.version)
        microvm = Microvm(
            id=prepared or new_microvm_id(),
            account_id=caller.account_id,
            endpoint_label=str(uuid.uuid4()),
            image_id=image.id,
            image_arn=image.arn,
            image_version=version.version,
            state=MicrovmState.PENDING,
            state_reason=None,
            request=request,
            incarnation=1,
            started_at=datetime.now(UTC),
            terminated_at=None,
            started=Instant.now(),
        )
        token = note_made(caller, asked.client_request, microvm.id)
        try:
            self._launcher.launch([microvm], token)
        except BaseException:
            if prepared is not None:
                await self._machine.end(prepared, Left.NOTHING)
            raise
        return microvm

    def check_memory(self, caller: Caller, version: ImageVersion, count: int = 1) -> None:
        """Refuse microVMs that would go beyond the account's memory.

        Raises:
            QuotaExceededError: they would.
        """
        in_use = self._runners.memory_in_use(caller.account_id)
        self._quotas.check(caller.account_id, MEMORY, in_use, version.request.size.baseline_mib * count)

    def _find_launchable(self, caller: Caller, asked: RunMicrovm) -> tuple[Image, ImageVersion]:
        image = self._images.find_named(caller.account_id, asked.image, self._region)
        if image is not None and image.state in LAUNCHABLE_IMAGE_STATES:
            inactive_too = asked.inactive_too and asked.version is not None
            for version in self._images.list_versions(image.id):
                may_be = version.status is VersionStatus.ACTIVE or inactive_too
                runnable = version.state is VersionState.SUCCESSFUL and may_be
                if runnable and asked.version in (None, version.version):
                    return image, version
        pinned = f" and version {asked.version}" if asked.version else ""
        raise NotFoundError(f"No active version found for MicroVM image {asked.named}{pinned}")

    def _check_run(self, caller: Caller, asked: RunMicrovm, version: ImageVersion) -> LaunchRequest:
        check_hook_payload(asked.hook_payload, version)
        target = asked.log_target
        if target is not None and (target.group or target.stream) and asked.execution_role is None:
            raise ValidationError("Logging cannot be enabled without providing executionRoleArn")
        egress = self._egress.check(caller, asked.egress, version.request.egress)
        return LaunchRequest(
            region=self._region,
            ingress=asked.ingress or (Ingress.HTTP,),
            egress=tuple(egress),
            execution_role=asked.execution_role,
            idle_policy=asked.idle_policy,
            log_target=target,
            hook_payload=asked.hook_payload,
            max_duration_s=asked.max_duration_s or MAX_DURATION_S,
        )

    def get(self, caller: Caller, microvm_id: str) -> Microvm:
        """Return a microVM of the caller's account as it is to be shown, also after it has ended.

        Raises:
            NotFoundError: there is none.
        """
        microvm = self.find(caller, microvm_id)
        stalled = self._find_stall(microvm)
        return replace(microvm, state_reason=stalled) if stalled else microvm

    def find_shown(self, caller: Caller, microvm_id: str) -> Microvm | None:
        """Return what `get` returns; None where there is no such microVM."""
        try:
            return self.get(caller, microvm_id)
        except NotFoundError:
            return None

    def list_snapshots(self, caller: Caller, microvm_id: str) -> list[str]:
        """Return the versions of its image that a microVM can be rolled back to, oldest first.

        Raises:
            NotFoundError: there is no such microVM.
        """
        microvm = self.find(caller, microvm_id)
        taken = set(self._images.list_taken_from(microvm.id))
        versions = self._images.list_versions(microvm.image_id) if taken else []
        whole = (version for version in versions if version.state is VersionState.SUCCESSFUL)
        return [version.version for version in whole if version.version in taken][::-1]

    def list_microvms(self, caller: Caller, asked: ListMicrovms) -> Page[ListedMicrovm]:
        """Return microVMs of the caller's account, newest first.

        Raises:
            ValidationError: the page's token is not one of this list's.
        """
        limit, after = asked.page.limit, self._page_tokens.open_moment("ListMicrovms", asked.page.token)
        found = self._store.list_page(caller.account_id, limit + 1, after, asked.image, asked.version)
        page, token = found[:limit], None
        if len(found) > limit:
            token = self._page_tokens.seal("ListMicrovms", [page[-1].started_at.timestamp(), page[-1].id])
        return Page(page, token)

    async def suspend(self, caller: Caller, microvm_id: str) -> None:
        """Return when a microVM is suspended.

        Raises:
            ServiceError: it may not be, or could not.
        """
        runner = self.act_on(caller, microvm_id, Action.SUSPEND)
        if runner is not None:
            await runner.suspend()

    async def resume(self, caller: Caller, microvm_id: str) -> None:
        """Return when a microVM runs.

        Raises:
            ServiceError: it may not, or cannot.
        """
        runner = self.act_on(caller, microvm_id, Action.RESUME)
        if runner is not None:
            await runner.resume()

    def terminate(self, caller: Caller, microvm_id: str) -> None:
        """Begin to end a microVM.

        Raises:
            NotFoundError: there is none.
        """
        runner = self.act_on(caller, microvm_id, Action.TERMINATE)
        if runner is not None:
            runner.begin_to_terminate(ENDED_BY_CALLER)

    def act_on(self, caller: Caller, microvm_id: str, action: Action) -> MicrovmRunner | None:
        """Return the runner when there is something to do, None when the action changes nothing.

        Raises:
            NotFoundError: there is no such microVM.
            ValidationError: it has ended.
            ConflictError: something is under way with it.
        """
        microvm = self.find(caller, microvm_id)
        match VERDICTS[microvm.state, action]:
            case Verdict.ENDED | Verdict.REFUSE:
                raise ValidationError(f"The MicroVM {microvm.id} has been terminated and its state cannot be changed.")
            case Verdict.CONFLICT:
                raise ConflictError(f"The MicroVM {microvm.id} is in state {microvm.state}; wait until it has settled.")
            case Verdict.IGNORE:
                return None
            case Verdict.DO:
                return self._runners.find(microvm.id)

    def create_auth_token(self, caller: Caller, asked: CreateAuthToken) -> str:
        """Return a token that opens ports of a microVM.

        Raises:
            NotFoundError: there is no such microVM.
            ValidationError: it would be too long, or there are no such ports.
        """
        microvm = self.find(caller, asked.microvm_id)
        expires = _expiry(asked.minutes)
        return self._token_keys.mint(microvm.id, PortGrant.of(asked.ports), expires)

    def create_shell_auth_token(self, caller: Caller, asked: CreateShellAuthToken) -> str:
        """Return a token that opens shells in a microVM.

        Raises:
            NotFoundError: there is no such microVM.
            ValidationError: the token would be too long, or the microVM was not run with SHELL_INGRESS.
        """
        microvm = self.find(caller, asked.microvm_id)
        expires = _expiry(asked.minutes)
        connectors = set(microvm.request.ingress)
        if Ingress.ALL in connectors and len(connectors) > 1:
            raise ValidationError(
                "ALL_INGRESS cannot be combined with other ingress network connectors; "
                "use HTTP_INGRESS and/or SHELL_INGRESS instead"
            )
        if Ingress.SHELL not in connectors:
            raise ValidationError(
                "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM."
            )
        return self._token_keys.mint(microvm.id, PortGrant.of([(SHELL_PORT, SHELL_PORT)]), expires, kind="shell")

    def _find_stall(self, microvm: Microvm) -> str | None:
        """Say why a microVM that is RUNNING stands still, if it does: the full disk may not take that into its row."""
        runner = self._runners.find(microvm.id)
        return runner.stalled if runner is not None and microvm.state is MicrovmState.RUNNING else None

    def check_room(self, what: str) -> None:
        """Refuse something new when there is little room on the disk.

        Args:
            what: the start of the sentence that says so.

        Raises:
            CapacityError: there is.
        """
        self._room.check(what)

    def find(self, caller: Caller, microvm_id: str) -> Microvm:
        """Return a microVM of the caller's account, also after it has ended.

        Raises:
            NotFoundError: there is none.
        """
        microvm = self._store.find(microvm_id)
        if microvm is None or microvm.account_id != caller.account_id:
            raise NotFoundError(f"MicroVM not found: {microvm_id}")
        return microvm


def check_hook_payload(payload: str | None, version: ImageVersion) -> None:
    """Check that there is a hook for a payload.

    Raises:
        ValidationError: there is none.
    """
    if payload and version.request.find_hook(HookName.RUN) is None:
        raise ValidationError("The run hook must be enabled in the MicroVM image to pass the run hook payload")


def _expiry(minutes: int) -> datetime:
    """Return when a token ends.

    Raises:
        ValidationError: that is too far off.
    """
    if minutes > TOKEN_MINUTES_MAX:
        raise ValidationError(f"ExpirationMinutes {minutes} exceeded max allowed of {TOKEN_MINUTES_MAX}.")
    return datetime.now(UTC) + timedelta(minutes=minutes)
