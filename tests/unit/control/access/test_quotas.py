"""Quotas and request rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emberbox.control.access.quotas import Quotas, RateLimiter
from emberbox.model.errors import QuotaExceededError, ThrottlingError
from emberbox.model.iam.quotas import BUILDS, CONNECTORS, IMAGES, MEMORY, VERSIONS, default_quotas
from emberbox.spec.models import CORE
from emberbox.store.access import AccessStore
from emberbox.store.database import Database
from emberbox.store.schema import metadata

from .access_world import OPERATOR, REGION, RefusedError, World, start_world

FIRST, SECOND = "111111111111", "222222222222"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    database = Database(f"sqlite:///{tmp_path}/quotas.db", metadata)
    yield AccessStore(database)
    database.close()


def test_the_defaults_are_awss_for_the_region() -> None:
    large, other = default_quotas("us-east-1"), default_quotas("eu-west-1")
    assert (large[MEMORY].default, other[MEMORY].default) == (1024 * 1024, 400 * 1024)
    assert (large[BUILDS].default, other[BUILDS].default) == (10, 5)
    assert (large[IMAGES].default, large["RunMicrovmRate"].default, large["GetMicrovmRate"].default) == (100, 5, 100)


def test_a_quota_allows_up_to_its_value_and_not_one_more(store: AccessStore) -> None:
    quotas = Quotas(store, REGION)
    quotas.check(FIRST, IMAGES, 99)
    with pytest.raises(QuotaExceededError, match=r"maximum number of MicroVM images \(100\)"):
        quotas.check(FIRST, IMAGES, 100)
    quotas.check(FIRST, MEMORY, 1024 * 1024 - 512, 512)
    with pytest.raises(QuotaExceededError) as refused:
        quotas.check(FIRST, MEMORY, 1024 * 1024 - 512, 1024)
    assert refused.value.message == "The base maximum allocated memory limit has been reached for this account."


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(limiter: RateLimiter, account_id: str, operation: str, tries: int = 1000) -> int:
    """Return how many requests go through one after the other."""
    for count in range(tries):
        try:
            limiter.take(account_id, operation)
        except ThrottlingError:
            return count
    return tries


def test_as_many_requests_at_once_as_come_in_a_second(store: AccessStore) -> None:
    clock = Clock()
    limiter = RateLimiter(Quotas(store, REGION), clock)
    assert taken(limiter, FIRST, "RunMicrovm") == 5
    clock.now = 0.2
    assert taken(limiter, FIRST, "RunMicrovm") == 1
    clock.now = 100
    assert taken(limiter, FIRST, "RunMicrovm") == 5


def test_accounts_and_operations_do_not_share_a_bucket(store: AccessStore) -> None:
    limiter = RateLimiter(Quotas(store, REGION), Clock())
    assert taken(limiter, FIRST, "SuspendMicrovm") == 2
    assert taken(limiter, SECOND, "SuspendMicrovm") == 2
    assert taken(limiter, FIRST, "ResumeMicrovm") == 5
    assert taken(limiter, FIRST, "ListMicrovms") == 1000  # AWS publishes no rate for it


def test_a_changed_rate_counts_at_once(store: AccessStore) -> None:
    quotas = Quotas(store, REGION)
    limiter = RateLimiter(quotas, Clock())
    taken(limiter, FIRST, "RunMicrovm")
    for code, value in (("RunMicrovmRate", 0), ("ListMicrovmsRate", 3)):
        store.put_quota(FIRST, code, value)
    quotas.reload()
    assert taken(limiter, FIRST, "RunMicrovm") == 0
    assert taken(limiter, FIRST, "ListMicrovms") == 3
    store.remove_quota(FIRST, "RunMicrovmRate")
    quotas.reload()
    assert taken(limiter, FIRST, "RunMicrovm") == 5


async def test_quotas_are_listed_changed_and_reset(world: World) -> None:
    key = await world.new_account(FIRST)
    listed = {quota["quotaCode"]: quota for quota in (await world.own(key, "ListQuotas"))["items"]}
    assert (listed["Images"]["value"], listed["Images"]["awsQuotaCode"]) == (100, "L-942E56BE")
    put = await world.own(world.admin, "PutQuota", quotaCode="Images", value=7, accountId=FIRST)
    assert (put["quota"]["value"], put["quota"]["defaultValue"]) == (7, 100)
    assert world.access.quotas.limit(FIRST, "Images") == 7
    assert world.access.quotas.limit(SECOND, "Images") == 100
    await world.own(world.admin, "PutQuota", quotaCode="ListMicrovmsRate", value=3, accountId=FIRST)
    listed = {quota["quotaCode"]: quota for quota in (await world.own(key, "ListQuotas"))["items"]}
    assert (listed["Images"]["value"], listed["ListMicrovmsRate"]["value"]) == (7, 3)
    await world.own(world.admin, "DeleteQuota", quotaCode="Images", accountId=FIRST)
    assert world.access.quotas.limit(FIRST, "Images") == 100
    with pytest.raises(RefusedError, match="Quota not found: Nonsense"):
        await world.own(world.admin, "PutQuota", quotaCode="Nonsense", value=1)


async def test_a_quota_survives_a_restart(tmp_path: Path) -> None:
    async with start_world(tmp_path) as world:
        await world.own(world.admin, "PutQuota", quotaCode="Images", value=7)
    async with start_world(tmp_path) as world:
        assert world.access.quotas.limit(world.admin.account_id, "Images") == 7


async def test_too_many_requests_are_told_to_wait(tmp_path: Path) -> None:
    async with start_world(tmp_path, rate_limits=True) as world:
        await world.own(world.admin, "PutQuota", quotaCode="GetMicrovmRate", value=2)
        codes = []
        for _ in range(3):
            with pytest.raises(RefusedError) as refused:
                await world.call(world.admin, "GetMicrovm", microvmIdentifier="microvm-x")
            codes.append(refused.value.status)
        assert codes == [404, 404, 429]
        assert (refused.value.code, refused.value.text) == ("ThrottlingException", "Rate exceeded")
        assert refused.value.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("quota", "limit", "operation"),
    [
        (BUILDS, 0, "CreateMicrovmImage"),
        (BUILDS, 0, "UpdateMicrovmImage"),
        (IMAGES, 1, "CreateMicrovmImage"),
        (VERSIONS, 1, "UpdateMicrovmImage"),
    ],
)
async def test_what_would_go_beyond_a_quota_is_refused(world: World, quota: str, limit: int, operation: str) -> None:
    image = world.add_image(OPERATOR, "web")
    await world.own(world.admin, "PutQuota", quotaCode=quota, value=limit)
    request = {
        "baseImageArn": f"arn:aws:lambda:{REGION}:aws:microvm-image:debian12-1",
        "buildRoleArn": f"arn:aws:iam::{OPERATOR}:role/build",
        "codeArtifact": {"uri": "s3://code/key"},
        **({"name": "other"} if operation == "CreateMicrovmImage" else {"imageIdentifier": image.arn}),
    }
    with pytest.raises(RefusedError, match=rf"maximum number of .*\({limit}\)") as refused:
        await world.call(world.admin, operation, **request)
    assert (refused.value.status, refused.value.code) == (402, "ServiceQuotaExceededException")
    assert len((await world.call(world.admin, "ListMicrovmImages"))["items"]) == 1
    assert len(world.images.list_versions(image.id)) == 1


async def test_connectors_have_a_quota_with_a_code_of_their_own(world: World) -> None:
    await world.own(world.admin, "PutQuota", quotaCode=CONNECTORS, value=0)
    egress = {
        "SubnetIds": ["subnet-lab"],
        "SecurityGroupIds": ["sg-none"],
        "NetworkProtocol": "IPv4",
        "AssociatedComputeResourceTypes": ["MicroVm"],
    }
    with pytest.raises(RefusedError, match=r"maximum number of network connectors \(0\)") as refused:
        await world.call(
            world.admin,
            "CreateNetworkConnector",
            CORE,
            Name="x",
            Configuration={"VpcEgressConfiguration": egress},
            OperatorRole=f"arn:aws:iam::{OPERATOR}:role/operator",
            ClientToken="x",
        )
    assert (refused.value.status, refused.value.code) == (400, "NetworkConnectorLimitExceededException")


async def test_a_launch_beyond_the_memory_quota_is_refused(world: World) -> None:
    image = world.add_image(world.admin.account_id, "web")
    await world.own(world.admin, "PutQuota", quotaCode=MEMORY, value=511)
    with pytest.raises(RefusedError, match="base maximum allocated memory limit") as refused:
        await world.call(world.admin, "RunMicrovm", imageIdentifier=image.arn)
    assert (refused.value.status, refused.value.code) == (402, "ServiceQuotaExceededException")
    assert (await world.call(world.admin, "ListMicrovms"))["items"] == []
