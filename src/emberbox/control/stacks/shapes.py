"""From what a request asks for to what a stack is to be: the template read, parameters chosen, everything checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emberbox.background import in_thread
from emberbox.control.access.delegation import Delegates
from emberbox.control.stacks.commands import ShapeRequest
from emberbox.control.stacks.kinds import ResourceKinds
from emberbox.model.caller import Caller
from emberbox.model.errors import CapabilitiesError, ValidationError
from emberbox.model.stacks.parameters import choose_values, resolve_stored
from emberbox.model.stacks.records import StackShape
from emberbox.model.stacks.template import BODY_MAX, Template, parse_template

_IAM = "AWS::IAM::"
_NAMED, _ANY, _EXPAND = "CAPABILITY_NAMED_IAM", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"

FindStored = Callable[[str, str], str | None]
"""Returns the value that an account has stored under a name."""


@dataclass(frozen=True, slots=True)
class Shaper:
    """Makes shapes.

    Args:
        kinds: says what resources may be.
        delegates: knows service roles.
        find_stored: looks stored parameters up.
    """

    kinds: ResourceKinds
    delegates: Delegates
    find_stored: FindStored

    async def make(
        self, caller: Caller, asked: ShapeRequest, earlier: StackShape | None, *, is_reviewed: bool = False
    ) -> tuple[StackShape, Template]:
        """Return what a stack is to be.

        Args:
            caller: who asks.
            asked: see there.
            earlier: what the stack is; None of a new one.
            is_reviewed: a change set shows what comes of it, before anything is made.

        Raises:
            ValidationError: something of it makes no sense, or is not offered.
            CapabilitiesError: it makes roles or policies, or has a transform that nobody has seen the outcome of, and
                that was not acknowledged.
        """
        text = await self.find_text(caller, asked, earlier)
        template = await in_thread(parse_template, text)
        self._check_capabilities(template, asked.capabilities, is_reviewed=is_reviewed)
        before = earlier or StackShape("")
        values = choose_values(template, asked.parameters, asked.kept, before.parameters)
        stored = resolve_stored(template, values, lambda name: self.find_stored(caller.account_id, name))
        role_arn = asked.role_arn or before.role_arn
        self.delegates.remember(caller, role_arn)  # which refuses a role that cannot be assumed
        shape = StackShape(
            template=text,
            parameters=values,
            stored=stored,
            tags=before.tags if asked.tags is None else asked.tags,
            capabilities=asked.capabilities,
            role_arn=role_arn,
            notification_arns=before.notification_arns if asked.notification_arns is None else asked.notification_arns,
            description=template.description,
        )
        return shape, template

    async def find_text(self, caller: Caller, asked: ShapeRequest, earlier: StackShape | None) -> str:
        """Return the text of the template that is asked for.

        Raises:
            ValidationError: none is named or several are, it is too long, or cannot be read.
        """
        if asked.keep_template and asked.body is None and asked.url is None and earlier is not None:
            return earlier.template
        if (asked.body is None) == (asked.url is None) or asked.keep_template:
            raise ValidationError("Either Template URL or Template Body must be specified.")
        if asked.url is not None:
            return await self.kinds.read_object(caller, asked.url)
        text = str(asked.body)
        if len(text.encode()) > BODY_MAX:
            raise ValidationError(
                f"1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member must have "
                f"length less than or equal to {BODY_MAX}"
            )
        return text

    def needed_capabilities(self, template: Template) -> tuple[str, ...]:
        """Return what a sender must acknowledge: roles and policies, and more so those with names of their own."""
        makes = [one for one in template.resources.values() if one.type.startswith(_IAM)]
        if any(self.kinds.names_itself(one.type, one.properties) for one in makes):
            return (_NAMED,)
        return (_ANY,) if makes else ()

    def _check_capabilities(self, template: Template, given: tuple[str, ...], *, is_reviewed: bool) -> None:
        needed = self.needed_capabilities(template)
        if needed and not {*needed, _NAMED} & set(given):
            raise CapabilitiesError(f"Requires capabilities : [{', '.join(needed)}]")
        if template.transforms and not is_reviewed and _EXPAND not in given:
            raise CapabilitiesError(f"Requires capabilities : [{_EXPAND}]")
