"""CloudWatch's metrics: there are none, as AWS has none of microVMs; clients that ask go on."""

from __future__ import annotations

from typing import Final

from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.offered import offer
from emberbox.model.caller import Caller

_NO_DATA: Final = {
    "Code": "NoData",
    "Value": "Emberbox keeps no metrics; `emberbox top` shows what microVMs use now.",
}
_STATISTICS: Final = (
    "Namespace", "MetricName", "Dimensions", "StartTime", "EndTime", "Period", "Statistics", "ExtendedStatistics",
    "Unit",
)  # fmt: skip
_DATA: Final = ("MetricDataQueries", "StartTime", "EndTime", "ScanBy", "MaxDatapoints", "LabelOptions")


def handlers() -> dict[str, Handler]:
    """Return the handler of each operation that is offered, by its name in the service model."""

    async def get_metric_statistics(_caller: Caller, parameters: Parameters) -> Members:
        return {"Label": parameters["MetricName"], "Datapoints": []}

    async def get_metric_data(_caller: Caller, parameters: Parameters) -> Members:
        queries = parameters["MetricDataQueries"]
        results = [_show_nothing(query) for query in queries if query.get("ReturnData", True)]
        return {"MetricDataResults": results, "Messages": [_NO_DATA]}

    async def list_metrics(_caller: Caller, _parameters: Parameters) -> Members:
        return {"Metrics": []}

    return {
        "GetMetricStatistics": offer(get_metric_statistics, *_STATISTICS),
        "GetMetricData": offer(get_metric_data, *_DATA),
        "ListMetrics": offer(list_metrics, "Namespace", "MetricName", "Dimensions", "RecentlyActive"),
    }


def _show_nothing(query: Parameters) -> Members:
    metric = query.get("MetricStat", {}).get("Metric", {}).get("MetricName")
    label = query.get("Label") or metric or query.get("Expression") or query["Id"]
    return {"Id": query["Id"], "Label": label, "Timestamps": [], "Values": [], "StatusCode": "Complete"}
