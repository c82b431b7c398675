"""Service Quotas: the limits of AWS Lambda's microVMs, as `emberbox quotas` has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from emberbox.control.access.quotas import QuotaService
from emberbox.control.requests.paging import PageRequest, PageTokens, cut_page
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.offered import offer
from emberbox.model.caller import Caller
from emberbox.model.errors import NotFoundError
from emberbox.model.iam.quotas import BUILDS, IMAGES, MEMORY, RATE_SUFFIX, VERSIONS, QuotaValue

SERVICE: Final = "lambda"
_SERVICE: Final = {"ServiceCode": SERVICE, "ServiceName": "AWS Lambda"}
_BURSTS: Final = {
    "CreateMicrovmAuthToken": "L-D65D9F16",
    "CreateMicrovmShellAuthToken": "L-9A5E43A5",
    "GetMicrovm": "L-C9C2110E",
    "ResumeMicrovm": "L-25EEC0A4",
    "RunMicrovm": "L-91B95582",
    "SuspendMicrovm": "L-139F9A48",
    "TerminateMicrovm": "L-2CCA0501",
}
"""The second code of a rate: requests at once, of which as many are allowed as in a second (dossier, section 11)."""

_NAMES: Final = {
    MEMORY: "Max allocated ARM_64 MicroVM memory",
    IMAGES: "MicroVM images",
    VERSIONS: "Versions per MicroVM image",
    BUILDS: "Concurrent MicroVM image builds",
}
"""Clients tell the quotas of microVMs from Lambda's others by their names."""

_MIB_IN_GB: Final = 1024  # AWS counts memory in gigabytes
_PAGE: Final = ("NextToken", "MaxResults")
_PAGE_DEFAULT: Final = 100
_PLAIN: Final = str.maketrans("-_", "+/")  # the model wants a token in plain Base64
_URL_SAFE: Final = str.maketrans("+/", "-_")


def handlers(quotas: QuotaService, pages: PageTokens, region: str) -> dict[str, Handler]:
    """Return the handler of each operation that is offered, by its name in the service model.

    Args:
        quotas: answers.
        pages: for the lists.
        region: the region played, for ARNs.
    """

    def listed(caller: Caller, parameters: Parameters, defaults: bool) -> list[Members]:
        _check_service(parameters)
        found = quotas.list_quotas(caller.account_id)
        return [shown for quota in found for shown in show_quota(quota, region, defaults)]

    def one(caller: Caller, parameters: Parameters, defaults: bool) -> Members:
        for quota in listed(caller, parameters, defaults):
            if quota["QuotaCode"] == parameters["QuotaCode"]:
                return {"Quota": quota}
        raise NotFoundError(f"The request failed because the quota {parameters['QuotaCode']} does not exist.")

    async def list_quotas(caller: Caller, parameters: Parameters) -> Members:
        wanted = parameters.get("QuotaCode")
        found = [quota for quota in listed(caller, parameters, False) if wanted in (None, quota["QuotaCode"])]
        return _show_page(pages, "Quotas", found, parameters)

    async def list_defaults(caller: Caller, parameters: Parameters) -> Members:
        return _show_page(pages, "Quotas", listed(caller, parameters, True), parameters)

    async def get_quota(caller: Caller, parameters: Parameters) -> Members:
        return one(caller, parameters, False)

    async def get_default(caller: Caller, parameters: Parameters) -> Members:
        return one(caller, parameters, True)

    async def list_services(_caller: Caller, parameters: Parameters) -> Members:
        return _show_page(pages, "Services", [_SERVICE], parameters)

    return {
        "ListServiceQuotas": offer(list_quotas, "ServiceCode", "QuotaCode", *_PAGE),
        "ListAWSDefaultServiceQuotas": offer(list_defaults, "ServiceCode", *_PAGE),
        "GetServiceQuota": offer(get_quota, "ServiceCode", "QuotaCode"),
        "GetAWSDefaultServiceQuota": offer(get_default, "ServiceCode", "QuotaCode"),
        "ListServices": offer(list_services, *_PAGE),
    }


def show_quota(quota: QuotaValue, region: str, default: bool) -> list[Members]:
    """Return a quota as Service Quotas shows it: its value, or the default.

    A rate is two quotas there, of requests in a second and of requests at once; one that AWS does not publish is none.
    """
    if not quota.aws_code:
        return []
    operation = quota.code.removesuffix(RATE_SUFFIX)
    burst = _BURSTS.get(operation)
    if burst is None:
        return [_show(quota, quota.aws_code, _NAMES.get(quota.code, quota.description), region, default)]
    return [
        _show(quota, quota.aws_code, f"{operation} request rate", region, default),
        _show(quota, burst, f"{operation} request burst", region, default),
    ]


def _show(quota: QuotaValue, code: str, name: str, region: str, default: bool) -> Members:
    value = float((quota.default if default else quota.value) or 0)
    is_memory = quota.code == MEMORY
    return {
        **_SERVICE,
        "QuotaArn": f"arn:aws:servicequotas:{region}:{quota.account_id}:{SERVICE}/{code}",
        "QuotaCode": code,
        "QuotaName": name,
        "Value": value / _MIB_IN_GB if is_memory else value,
        "Unit": "Gigabytes" if is_memory else "None",
        "Adjustable": True,
        "GlobalQuota": False,
        "QuotaAppliedAtLevel": None if default else "ACCOUNT",
    }


def _check_service(parameters: Parameters) -> None:
    if parameters["ServiceCode"] != SERVICE:
        raise NotFoundError(f"The service {parameters['ServiceCode']} has no quotas here; {SERVICE} has.")


def _show_page(pages: PageTokens, member: str, found: Sequence[Any], parameters: Parameters) -> Members:
    """Return the page of a list that a request asks for. Any: what the list has."""
    token = parameters.get("NextToken")
    asked = PageRequest(parameters.get("MaxResults", _PAGE_DEFAULT), token and token.translate(_URL_SAFE))
    page = cut_page(pages, f"servicequotas:{member}", found, asked)
    return {member: list(page.items), "NextToken": page.next_token and page.next_token.translate(_PLAIN)}
