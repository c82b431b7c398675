"""DescribeServer and DescribeHost."""

from __future__ import annotations

from emberbox.control.server.host_info import HostInfo
from emberbox.control.server.info import ServerInfo
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.model.boundary import boundary_of
from emberbox.model.caller import Caller
from emberbox.model.engines import EngineReport
from emberbox.model.usage import HostReport, Usage


def handlers(server: ServerInfo, host: HostInfo) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model."""

    async def describe_server(_caller: Caller, _parameters: Parameters) -> Members:
        return show_server(server)

    async def describe_host(caller: Caller, _parameters: Parameters) -> Members:
        return show_host(await host.report(caller))

    return {"DescribeServer": describe_server, "DescribeHost": describe_host}


def show_server(server: ServerInfo) -> Members:
    """Return what DescribeServer answers."""
    return {
        "version": server.version,
        "region": server.region,
        "accelerator": server.accelerator,
        "boundary": boundary_of(server.accelerator).value,
        "engines": [_show_engine(engine) for engine in server.list_engines()],
        "network": server.network,
        "startedAt": server.started_at,
    }


def _show_engine(engine: EngineReport) -> Members:
    return {
        "name": engine.name,
        "description": engine.description,
        "accelerator": engine.accelerator,
        "boundary": boundary_of(engine.accelerator).value,
        "isDefault": engine.is_default,
    }


def show_host(report: HostReport) -> Members:
    """Return what DescribeHost answers."""
    figures = report.figures
    return {
        "cpuCount": figures.cpu_count,
        "loadAverage": figures.load_average,
        "memoryTotalInBytes": figures.memory_total,
        "memoryAvailableInBytes": figures.memory_available,
        "diskFreeInBytes": figures.disk_free,
        "diskReserveInBytes": figures.disk_reserve,
        "microvms": [{"microvmId": one.microvm_id, **_show_usage(one.usage)} for one in report.microvms],
        "pooledMicrovms": [
            {"imageArn": one.image_arn, "imageVersion": one.image_version, **_show_usage(one.usage)}
            for one in report.pooled
        ],
    }


def _show_usage(usage: Usage) -> Members:
    return {
        "memoryInBytes": usage.memory_bytes,
        "changedMemoryInBytes": usage.changed_bytes,
        "diskInBytes": usage.disk_bytes,
        "cpuSeconds": usage.cpu_s,
    }
