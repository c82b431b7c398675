"""The `emberbox` command: its groups put together, and errors turned into one line."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from emberbox.cli import (
    apply,
    console,
    cp,
    dev,
    doctor,
    env,
    execute,
    forks,
    init,
    logs,
    mcp,
    microvms,
    quickstart,
    server,
    settings,
    shell,
    trust,
)
from emberbox.cli.accounts import accounts
from emberbox.cli.audit import audit
from emberbox.cli.context import clear_errors
from emberbox.cli.daytona_keys import daytona_keys
from emberbox.cli.e2b_keys import e2b_keys
from emberbox.cli.e2b_templates import e2b_templates
from emberbox.cli.images import images
from emberbox.cli.keys import keys
from emberbox.cli.policies import policies
from emberbox.cli.quotas import quotas
from emberbox.cli.roles import roles
from emberbox.model.errors import EmberboxError


class _ClearGroup(TyperGroup):
    """Shows an error that was raised on purpose as a line, and anything else as the bug that it is."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with clear_errors():
                return super().invoke(ctx)
        except EmberboxError as error:
            text = Text.assemble(("error: ", "bold red"), str(error))
            Console(stderr=True).print(text, soft_wrap=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_ClearGroup,
    help="AWS Lambda MicroVMs on your own machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        try:
            print(f"emberbox {metadata.version('emberbox')}")
        except metadata.PackageNotFoundError:
            print("emberbox, run from its sources")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """AWS Lambda MicroVMs on your own machine."""


app.command()(quickstart.quickstart)
app.command()(init.init)
app.command()(dev.dev)
app.command()(server.up)
app.command()(server.down)
app.command()(server.status)
app.command()(console.console)
app.command()(env.env)
app.command()(trust.trust)
app.command()(logs.logs)
app.command()(shell.shell)
app.command("exec", context_settings={"allow_interspersed_args": False})(execute.execute)
app.command()(cp.cp)
app.command()(mcp.mcp)
app.command()(microvms.ps)
app.command()(microvms.top)
app.command()(microvms.events)
app.command()(apply.apply)
app.command()(forks.snapshot)
app.command()(forks.fork)
app.command()(forks.restore)
app.command()(doctor.doctor)
app.command()(settings.settings)
app.add_typer(images, name="images")
app.add_typer(accounts, name="accounts")
app.add_typer(keys, name="keys")
app.add_typer(daytona_keys, name="daytona-keys")
app.add_typer(e2b_keys, name="e2b-keys")
app.add_typer(e2b_templates, name="e2b-templates")
app.add_typer(policies, name="policies")
app.add_typer(roles, name="roles")
app.add_typer(quotas, name="quotas")
app.command()(audit)


if __name__ == "__main__":
    app()
