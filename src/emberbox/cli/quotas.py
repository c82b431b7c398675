"""`emberbox quotas`: the limits of accounts."""

from __future__ import annotations

from typing import Annotated

import typer

from emberbox.cli.access import AccountOption, given, own_client, show_table

CodeArgument = Annotated[str, typer.Argument(help="The quota's code, as `list` shows it.", metavar="QUOTA")]

quotas = typer.Typer(help="The limits of accounts.", no_args_is_help=True)


@quotas.command("list")
def list_quotas(account: AccountOption = None) -> None:
    """List the quotas of an account; any operation can have a rate."""
    rows = [
        (
            quota["quotaCode"],
            str(quota.get("value", "none")),
            str(quota.get("defaultValue", "none")),
            quota["unit"],
            quota.get("description", ""),
            quota.get("awsQuotaCode", ""),
        )
        for quota in own_client().list_quotas(**given(accountId=account))["items"]
    ]
    show_table(("Quota", "Value", "Default", "Unit", "Limits", "AWS code"), rows)


@quotas.command("set")
def set_quota(
    quota: CodeArgument,
    value: Annotated[int, typer.Argument(help="The new limit.")],
    account: AccountOption = None,
) -> None:
    """Change a quota; what is there already stays."""
    own_client().put_quota(**given(quotaCode=quota, value=value, accountId=account))


@quotas.command()
def reset(quota: CodeArgument, account: AccountOption = None) -> None:
    """Give a quota its default back."""
    own_client().delete_quota(**given(quotaCode=quota, accountId=account))
