"""CloudWatch's metrics: how often operations were called, the only ones that AWS has of microVMs.

Namespace `AWS/Usage`, metric `CallCount`, with the dimensions of AWS's usage metrics. Each call is a sample of 1.
Whatever else is asked for has no data, so that clients which look for more go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from emberbox.control.access.call_counts import MINUTE_S, CallCounts
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.offered import offer
from emberbox.model.caller import Caller
from emberbox.model.errors import ValidationError

NAMESPACE: Final = "AWS/Usage"
METRIC: Final = "CallCount"
_DIMENSIONS: Final = {"Type": "API", "Service": "Lambda", "Class": "None"}
_UNIT: Final = "None"
_NO_DATA: Final = {
    "Code": "NoData",
    "Value": f"Of microVMs there is {METRIC} in {NAMESPACE}, as on AWS; `emberbox top` shows what they use now.",
}
_STATISTICS: Final = (
    "Namespace", "MetricName", "Dimensions", "StartTime", "EndTime", "Period", "Statistics", "ExtendedStatistics",
    "Unit",
)  # fmt: skip
_DATA: Final = ("MetricDataQueries", "StartTime", "EndTime", "ScanBy", "MaxDatapoints", "LabelOptions")
_SUMS: Final = frozenset({"Sum", "SampleCount"})


def handlers(counts: CallCounts) -> dict[str, Handler]:
    """Return the handler of each operation that is offered, by its name in the service model."""

    async def get_metric_statistics(caller: Caller, parameters: Parameters) -> Members:
        found = _samples(counts, caller, parameters, parameters)
        names = parameters.get("Statistics") or []
        points = [
            {"Timestamp": at, "Unit": _UNIT, **{name: _statistic(name, count) for name in names}} for at, count in found
        ]
        return {"Label": parameters["MetricName"], "Datapoints": points}

    async def get_metric_data(caller: Caller, parameters: Parameters) -> Members:
        queries = [query for query in parameters["MetricDataQueries"] if query.get("ReturnData", True)]
        results = [_show_data(counts, caller, query, parameters) for query in queries]
        has_data = any(result["Values"] for result in results)
        return {"MetricDataResults": results, "Messages": [] if has_data else [_NO_DATA]}

    async def list_metrics(caller: Caller, parameters: Parameters) -> Members:
        shown = [_show_metric(operation) for operation in counts.operations_of(caller.account_id)]
        return {"Metrics": [metric for metric in shown if _is_wanted(metric, parameters)]}

    return {
        "GetMetricStatistics": offer(get_metric_statistics, *_STATISTICS),
        "GetMetricData": offer(get_metric_data, *_DATA),
        "ListMetrics": offer(list_metrics, "Namespace", "MetricName", "Dimensions", "RecentlyActive"),
    }


def _samples(counts: CallCounts, caller: Caller, metric: Parameters, asked: Parameters) -> list[tuple[datetime, int]]:
    """Return counts by their periods; none of a metric that is not there.

    Raises:
        ValidationError: the period is no number of whole minutes.
    """
    period = asked.get("Period", MINUTE_S)
    if period < 1 or period % MINUTE_S:
        raise ValidationError("The parameter Period must be a value 60 or a multiple of 60 for this metric.")
    given = {one["Name"]: one["Value"] for one in metric.get("Dimensions") or ()}
    operation = given.pop("Resource", "")
    known = (metric["Namespace"], metric["MetricName"], given) == (NAMESPACE, METRIC, _DIMENSIONS)
    if not known or asked.get("Unit", _UNIT) != _UNIT:
        return []
    return counts.between(caller.account_id, operation, asked["StartTime"], asked["EndTime"], period)


def _statistic(name: str, count: int) -> float:
    """Of samples that are all 1, average, least and largest are 1, and so is every percentile."""
    return float(count) if name in _SUMS else 1.0


def _show_data(counts: CallCounts, caller: Caller, query: Parameters, asked: Parameters) -> dict[str, Any]:
    stat = query.get("MetricStat", {})
    metric = stat.get("Metric", {})
    label = query.get("Label") or metric.get("MetricName") or query.get("Expression") or query["Id"]
    found: list[tuple[datetime, int]] = []
    if stat:
        times = {name: asked[name] for name in ("StartTime", "EndTime")}
        found = _samples(counts, caller, metric, {**stat, **times})
    if asked.get("ScanBy") != "TimestampAscending":
        found.reverse()
    found = found[: asked.get("MaxDatapoints")]
    return {
        "Id": query["Id"],
        "Label": label,
        "Timestamps": [at for at, _ in found],
        "Values": [_statistic(stat["Stat"], count) for _, count in found],
        "StatusCode": "Complete",
    }


def _show_metric(operation: str) -> dict[str, Any]:
    dimensions = {**_DIMENSIONS, "Resource": operation}
    pairs = [{"Name": name, "Value": value} for name, value in dimensions.items()]
    return {"Namespace": NAMESPACE, "MetricName": METRIC, "Dimensions": pairs}


def _is_wanted(metric: Mapping[str, Any], asked: Parameters) -> bool:
    dimensions = {one["Name"]: one["Value"] for one in metric["Dimensions"]}
    return (
        asked.get("Namespace", NAMESPACE) == NAMESPACE
        and asked.get("MetricName", METRIC) == METRIC
        and all(
            one["Name"] in dimensions and one.get("Value") in (None, dimensions[one["Name"]])
            for one in asked.get("Dimensions") or ()
        )
    )
