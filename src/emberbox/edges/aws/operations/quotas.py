"""The operations on quotas."""

from __future__ import annotations

from emberbox.control.access.quotas import QuotaService
from emberbox.edges.aws.operations.accounts import read_account
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.model.caller import Caller
from emberbox.model.iam.quotas import QuotaValue


def handlers(quotas: QuotaService) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model."""

    async def list_quotas(caller: Caller, parameters: Parameters) -> Members:
        return {"items": [show_quota(quota) for quota in quotas.list_quotas(read_account(caller, parameters))]}

    async def put(caller: Caller, parameters: Parameters) -> Members:
        account_id = read_account(caller, parameters)
        return {"quota": show_quota(quotas.put(account_id, parameters["quotaCode"], parameters["value"]))}

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        quotas.delete(read_account(caller, parameters), parameters["quotaCode"])
        return {}

    return {"ListQuotas": list_quotas, "PutQuota": put, "DeleteQuota": delete}


def show_quota(quota: QuotaValue) -> Members:
    """Return a quota as the API shows it."""
    return {
        "quotaCode": quota.code,
        "awsQuotaCode": quota.aws_code,
        "accountId": quota.account_id,
        "value": quota.value,
        "defaultValue": quota.default,
        "unit": quota.unit,
        "description": quota.description,
    }
