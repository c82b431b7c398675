"""Service Quotas, CloudWatch and EC2: what Emberbox has of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from emberbox.edges.aws.operations.ec2 import show_subnets, show_vpcs, vpc_id
from emberbox.model.iam.quotas import default_quotas
from emberbox.spec.models import CLOUDWATCH, EC2, MICROVMS, QUOTAS
from support.around import Around, new_user, own
from support.control_plane import ControlPlane
from support.wire import KEY, REGION, call, signed_operation

ACCOUNT = KEY.account_id
NOW = datetime.now(UTC)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(tmp_path, KEY, REGION)
    yield plane
    await plane.close()


@pytest.fixture
def admin(plane: ControlPlane) -> Around:
    return Around(plane.app(), KEY)


async def test_quotas_are_those_that_aws_publishes(plane: ControlPlane, admin: Around) -> None:
    published = {quota.aws_code for quota in default_quotas(REGION).values() if quota.aws_code}
    listed = (await admin.ok(QUOTAS, "ListServiceQuotas", ServiceCode="lambda"))["Quotas"]
    assert {quota["QuotaCode"] for quota in listed if "burst" not in quota["QuotaName"]} == published
    assert all("microvm" in quota["QuotaName"].lower() for quota in listed), "rayito knows them by that"
    bursts = {quota["QuotaName"]: quota["Value"] for quota in listed if "burst" in quota["QuotaName"]}
    assert len(bursts) == 7
    assert bursts["SuspendMicrovm request burst"] == 2.0
    (one,) = (await admin.ok(QUOTAS, "ListServiceQuotas", ServiceCode="lambda", QuotaCode="L-535CA9B6"))["Quotas"]
    assert (one["Value"], one["ServiceName"], one["Adjustable"]) == (5.0, "AWS Lambda", True)
    assert one["QuotaArn"] == f"arn:aws:servicequotas:{REGION}:{ACCOUNT}:lambda/L-535CA9B6"
    assert (await admin.ok(QUOTAS, "ListServices"))["Services"] == [
        {"ServiceCode": "lambda", "ServiceName": "AWS Lambda"}
    ]


async def test_a_quota_is_what_was_put_and_memory_is_in_gigabytes(plane: ControlPlane, admin: Around) -> None:
    await own(plane, "PutQuota", quotaCode="ConcurrentMemoryInMiB", value=2560)
    asked = {"ServiceCode": "lambda", "QuotaCode": "L-CD1C0CC4"}
    quota = (await admin.ok(QUOTAS, "GetServiceQuota", **asked))["Quota"]
    assert (quota["Value"], quota["Unit"]) == (2.5, "Gigabytes")
    assert (await admin.ok(QUOTAS, "GetAWSDefaultServiceQuota", **asked))["Quota"]["Value"] == 1024.0
    await own(plane, "PutQuota", quotaCode="RunMicrovmRate", value=0)
    asked["QuotaCode"] = "L-535CA9B6"
    assert (await admin.ok(QUOTAS, "GetServiceQuota", **asked))["Quota"]["Value"] == 0.0


async def test_quotas_are_paged(admin: Around) -> None:
    first = await admin.ok(QUOTAS, "ListServiceQuotas", ServiceCode="lambda", MaxResults=10)
    rest = await admin.ok(QUOTAS, "ListServiceQuotas", ServiceCode="lambda", NextToken=first["NextToken"])
    codes = [quota["QuotaCode"] for quota in (*first["Quotas"], *rest["Quotas"])]
    assert len(set(codes)) == len(codes) == 18
    assert "NextToken" not in rest
    defaults = (await admin.ok(QUOTAS, "ListAWSDefaultServiceQuotas", ServiceCode="lambda"))["Quotas"]
    assert len(defaults) == 18


@pytest.mark.parametrize(("service", "code"), [("lambda", "L-NOTHING"), ("ec2", "L-535CA9B6")])
async def test_an_unknown_quota_is_not_there(admin: Around, service: str, code: str) -> None:
    found = await admin.refused(QUOTAS, "GetServiceQuota", ServiceCode=service, QuotaCode=code)
    assert found[:2] == (400, "NoSuchResourceException")


async def test_policies_decide_here_too(plane: ControlPlane) -> None:
    ann = await new_user(plane, "ann", "ec2:DescribeVpcs")
    assert await ann.ok(EC2, "DescribeVpcs")
    assert (await ann.refused(EC2, "DescribeSubnets"))[:2] == (403, "UnauthorizedOperation")
    status, code, text = await ann.refused(QUOTAS, "ListServiceQuotas", ServiceCode="lambda")
    assert (status, code) == (400, "AccessDeniedException")
    assert "servicequotas:ListServiceQuotas on resource: *" in text
    status, code, text = await ann.refused(CLOUDWATCH, "ListMetrics")
    assert (status, code) == (403, "AccessDeniedException")
    assert "cloudwatch:ListMetrics" in text


async def test_there_are_no_metrics(admin: Around) -> None:
    period = {"StartTime": NOW, "EndTime": NOW}
    found = await admin.ok(
        CLOUDWATCH, "GetMetricStatistics", Namespace="AWS/X", MetricName="Cpu", Period=60, Statistics=["Average"],
        Dimensions=[{"Name": "MicrovmId", "Value": "m"}], **period,
    )  # fmt: skip
    assert (found["Label"], found["Datapoints"]) == ("Cpu", [])
    stat = {"Metric": {"Namespace": "AWS/X", "MetricName": "Cpu"}, "Period": 60, "Stat": "Average"}
    queries = [{"Id": "a", "MetricStat": stat}, {"Id": "b", "Expression": "a/2", "ReturnData": False}, {"Id": "c"}]
    found = await admin.ok(CLOUDWATCH, "GetMetricData", MetricDataQueries=queries, **period)
    assert [(one["Id"], one["Label"], one["Values"]) for one in found["MetricDataResults"]] == [
        ("a", "Cpu", []),
        ("c", "c", []),
    ]
    assert found["Messages"][0]["Code"] == "NoData"
    assert (await admin.ok(CLOUDWATCH, "ListMetrics", Namespace="AWS/X"))["Metrics"] == []


async def test_calls_of_operations_are_counted(plane: ControlPlane, admin: Around) -> None:
    for _ in range(3):
        await call(plane.app(), signed_operation(MICROVMS, "ListMicrovms", {}, KEY))
    metric = {"Namespace": "AWS/Usage", "MetricName": "CallCount"}
    (listed,) = (await admin.ok(CLOUDWATCH, "ListMetrics", Dimensions=[{"Name": "Service"}], **metric))["Metrics"]
    dimensions = listed["Dimensions"]
    assert {one["Name"]: one["Value"] for one in dimensions} == {
        "Type": "API", "Service": "Lambda", "Class": "None", "Resource": "ListMicrovms",
    }  # fmt: skip
    period = {"StartTime": NOW - timedelta(hours=1), "EndTime": NOW + timedelta(hours=1)}
    asked = {"Period": 86_400, "Statistics": ["Sum", "Average"], "Dimensions": dimensions, **metric, **period}
    points = (await admin.ok(CLOUDWATCH, "GetMetricStatistics", **asked))["Datapoints"]
    assert [(point["Sum"], point["Average"], point["Unit"]) for point in points] in (
        [(3.0, 1.0, "None")], [(1.0, 1.0, "None"), (2.0, 1.0, "None")], [(2.0, 1.0, "None"), (1.0, 1.0, "None")],
    )  # fmt: skip
    stat = {"Metric": {**metric, "Dimensions": dimensions}, "Period": 300, "Stat": "Sum"}
    found = await admin.ok(CLOUDWATCH, "GetMetricData", MetricDataQueries=[{"Id": "a", "MetricStat": stat}], **period)
    assert (sum(found["MetricDataResults"][0]["Values"]), found["Messages"]) == (3.0, [])
    other = await admin.ok(CLOUDWATCH, "GetMetricStatistics", **{**asked, "Dimensions": dimensions[:3]})
    assert other["Datapoints"] == []
    assert (await admin.refused(CLOUDWATCH, "GetMetricStatistics", **{**asked, "Period": 61}))[0] == 400
    ann = await new_user(plane, "ann", "cloudwatch:*")
    assert (await ann.ok(CLOUDWATCH, "ListMetrics", **metric))["Metrics"] == [listed]


async def test_networks_of_the_operator_are_ec2s(admin: Around) -> None:
    (vpc,) = (await admin.ok(EC2, "DescribeVpcs", Filters=[{"Name": "isDefault", "Values": ["true"]}]))["Vpcs"]
    assert (vpc["VpcId"], vpc["IsDefault"], vpc["State"]) == (vpc_id(ACCOUNT), True, "available")
    asked = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    subnets = (await admin.ok(EC2, "DescribeSubnets", Filters=asked))["Subnets"]
    found = [(one["SubnetId"], one["CidrBlock"], one["AvailableIpAddressCount"]) for one in subnets]
    assert found == [("subnet-office", "192.168.0.0/16", 65531), ("subnet-lab", "172.16.5.0/24", 251)]
    asked.append({"Name": "group-name", "Values": ["nothing", "w?b"]})
    (group,) = (await admin.ok(EC2, "DescribeSecurityGroups", Filters=asked))["SecurityGroups"]
    assert (group["GroupId"], group["GroupName"], group["IpPermissions"]) == ("sg-web", "web", [])
    rules = [
        (rule["IpProtocol"], rule["FromPort"], rule["ToPort"], rule["IpRanges"])
        for rule in group["IpPermissionsEgress"]
    ]
    assert rules == [("tcp", 443, 443, [{"CidrIp": "192.168.10.0/24"}]), ("icmp", -1, -1, [{"CidrIp": "0.0.0.0/0"}])]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([], {"subnet-office", "subnet-lab"}),
        ([{"Name": "tag:Name", "Values": ["lab"]}], {"subnet-lab"}),
        ([{"Name": "tag-key", "Values": ["Name"]}], {"subnet-office", "subnet-lab"}),
        ([{"Name": "cidr-block", "Values": ["192.*"]}], {"subnet-office"}),
        ([{"Name": "vpc-id", "Values": ["vpc-1"]}], set()),
        ([{"Name": "vpc-id", "Values": []}], set()),
        ([{"Name": "subnet-id", "Values": ["*-*"]}, {"Name": "tag:Name", "Values": ["office"]}], {"subnet-office"}),
    ],
)  # fmt: skip
async def test_filters_leave_what_has_one_of_their_values(
    admin: Around, filters: list[dict[str, str]], found: set[str]
) -> None:
    subnets = (await admin.ok(EC2, "DescribeSubnets", Filters=filters))["Subnets"]
    assert {subnet["SubnetId"] for subnet in subnets} == found


@pytest.mark.parametrize(
    ("operation", "parameters", "code"),
    [
        ("DescribeSubnets", {"SubnetIds": ["subnet-lab", "subnet-x"]}, "InvalidSubnetID.NotFound"),
        ("DescribeVpcs", {"VpcIds": ["vpc-1"]}, "InvalidVpcID.NotFound"),
        ("DescribeSecurityGroups", {"GroupIds": ["sg-x"]}, "InvalidGroup.NotFound"),
        ("DescribeSecurityGroups", {"GroupNames": ["x"]}, "InvalidGroup.NotFound"),
        ("DescribeVpcs", {"Filters": [{"Name": "odd", "Values": ["x"]}]}, "InvalidParameterValue"),
        ("DescribeVpcs", {"DryRun": True}, "InvalidParameterValue"),
        ("DescribeVpcs", {"NextToken": "x"}, "InvalidParameterValue"),
    ],
)
async def test_what_is_not_there_or_not_meant_is_refused(
    admin: Around, operation: str, parameters: dict[str, object], code: str
) -> None:
    assert (await admin.refused(EC2, operation, **parameters))[:2] == (400, code)


async def test_networks_are_found_by_id_and_paged(plane: ControlPlane, admin: Around) -> None:
    (one,) = (await admin.ok(EC2, "DescribeSubnets", SubnetIds=["subnet-lab"]))["Subnets"]
    assert one["Tags"] == [{"Key": "Name", "Value": "lab"}]
    names = [f"subnet-{number}" for number in range(6)]
    (plane.directory / "networks.toml").write_text("".join(f"[{name}]\ninternet = true\n" for name in names))
    first = await admin.ok(EC2, "DescribeSubnets", MaxResults=5)
    rest = await admin.ok(EC2, "DescribeSubnets", MaxResults=5, NextToken=first["NextToken"])
    assert [one["SubnetId"] for one in (*first["Subnets"], *rest["Subnets"])] == names


async def test_without_networks_there_is_no_vpc(plane: ControlPlane, admin: Around) -> None:
    (plane.directory / "networks.toml").unlink()
    assert (await admin.ok(EC2, "DescribeVpcs"))["Vpcs"] == []
    (plane.directory / "networks.toml").write_text("[subnet-out]\ninternet = true\n")
    networks = plane.control.networks()
    assert show_vpcs(networks, ACCOUNT)[0]["CidrBlock"] == "0.0.0.0/0"
    assert show_subnets(networks, ACCOUNT, REGION)[0]["AvailableIpAddressCount"] == 0
