"""The operations on accounts, access keys and temporary credentials."""

from __future__ import annotations

from typing import Final

from emberbox.control.access.accounts import AccountService, AssumeRole, NewKey
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.model.caller import Caller
from emberbox.model.iam.access import AccessKey, Account, KeyStatus, TemporaryCredentials

SESSION_S: Final = 43_200
ROLE_SESSION_S: Final = 3600


def handlers(accounts: AccountService) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model."""
    return account_handlers(accounts) | key_handlers(accounts) | session_handlers(accounts)


def account_handlers(accounts: AccountService) -> dict[str, Handler]:
    """Return the handlers of the operations on accounts."""

    async def create(_caller: Caller, parameters: Parameters) -> Members:
        made = accounts.create_account(parameters["accountName"], parameters.get("accountId"))
        return {"account": show_account(made.account), "accessKey": show_new_key(made.first)}

    async def list_accounts(_caller: Caller, _parameters: Parameters) -> Members:
        return {"items": [show_account(account) for account in accounts.list_accounts()]}

    return {"CreateAccount": create, "ListAccounts": list_accounts}


def key_handlers(accounts: AccountService) -> dict[str, Handler]:
    """Return the handlers of the operations on access keys."""

    async def create(caller: Caller, parameters: Parameters) -> Members:
        return {
            "accessKey": show_new_key(accounts.create_key(read_account(caller, parameters), parameters["userName"]))
        }

    async def list_keys(caller: Caller, parameters: Parameters) -> Members:
        found = accounts.list_keys(read_account(caller, parameters), parameters.get("userName"))
        return {"items": [show_key(key) for key in found]}

    async def update(caller: Caller, parameters: Parameters) -> Members:
        status = KeyStatus(parameters["status"])
        return {"accessKey": show_key(accounts.update_key(caller, parameters["accessKeyId"], status))}

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        accounts.delete_key(caller, parameters["accessKeyId"])
        return {}

    return {
        "CreateAccessKey": create,
        "ListAccessKeys": list_keys,
        "UpdateAccessKey": update,
        "DeleteAccessKey": delete,
    }


def session_handlers(accounts: AccountService) -> dict[str, Handler]:
    """Return the handlers of the operations that lend rights for a while."""

    async def get_session_token(caller: Caller, parameters: Parameters) -> Members:
        session = accounts.get_session_token(caller, parameters.get("durationSeconds", SESSION_S))
        return {"credentials": show_credentials(session)}

    async def assume_role(caller: Caller, parameters: Parameters) -> Members:
        return {"credentials": show_credentials(accounts.assume_role(caller, read_assume_role(parameters)))}

    return {"GetSessionToken": get_session_token, "AssumeRole": assume_role}


def read_account(caller: Caller, parameters: Parameters) -> str:
    """Return the account that a request is about: the caller's where it names none."""
    account_id: str = parameters.get("accountId", caller.account_id)
    return account_id


def read_assume_role(parameters: Parameters) -> AssumeRole:
    """Return what is asked for."""
    return AssumeRole(
        role_name=parameters["roleName"],
        session_name=parameters["roleSessionName"],
        duration_s=parameters.get("durationSeconds", ROLE_SESSION_S),
    )


def show_account(account: Account) -> Members:
    """Return an account as the API shows it."""
    return {"accountId": account.id, "accountName": account.name, "createdAt": account.created_at}


def show_key(key: AccessKey) -> Members:
    """Return a key as the API shows it, without its secret."""
    return {
        "accessKeyId": key.id,
        "accountId": key.account_id,
        "userName": key.user_name,
        "status": key.status,
        "createdAt": key.created_at,
    }


def show_new_key(made: NewKey) -> Members:
    """Return a key with its secret: only the answer that tells of its making has it."""
    return {**show_key(made.key), "secretAccessKey": made.secret}


def show_credentials(session: TemporaryCredentials) -> Members:
    """Return temporary credentials as the API shows them."""
    return {
        "accessKeyId": session.access_key_id,
        "secretAccessKey": session.secret_access_key,
        "sessionToken": session.session_token,
        "expiration": session.expires_at,
    }
