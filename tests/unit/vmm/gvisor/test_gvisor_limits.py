"""What holds a sandbox: the figures of its shape, and what is done where a group cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from emberbox import process
from emberbox.host.cgroups import Group, Groups, Passed, Place
from emberbox.host.runsc.control import Control
from emberbox.model.errors import HostError
from emberbox.model.sizes import SIZES, Size
from emberbox.vmm.base import DISK, MachineShape, VmFiles
from emberbox.vmm.engine import Engine
from emberbox.vmm.gvisor.limits import files_max, limits_of, make_group
from emberbox.vmm.gvisor.vm import GvisorVm

SHAPE = MachineShape(2, 4096)
MIB = 1 << 20


@pytest.fixture
def files(tmp_path: Path) -> VmFiles:
    return VmFiles(tmp_path, tmp_path / "root.erofs")


@pytest.mark.parametrize("size", SIZES.values(), ids=str)
def test_a_guest_of_each_size_has_its_memory_and_processors(size: Size) -> None:
    limits = limits_of(MachineShape(size.vcpu_count, size.mem_size_mib))
    assert limits.memory_bytes > size.mem_size_mib * MIB
    assert limits.processors == size.vcpu_count


@pytest.mark.parametrize(("disk_mib", "bound_mib"), [(None, 2048), (8192, 2048), (100, 100)])
def test_files_take_half_of_the_memory_and_no_more_than_the_disk(
    files: VmFiles, disk_mib: int | None, bound_mib: int
) -> None:
    if disk_mib is not None:
        with (files.directory / DISK).open("wb") as disk:
            disk.truncate(disk_mib * MIB)
    assert files_max(files, SHAPE) == bound_mib * MIB


async def test_where_no_group_can_be_made_nothing_is_started_without(files: VmFiles, tmp_path: Path) -> None:
    groups = Groups([Place(tmp_path / "gone", ("pids",), unified=True)])
    with pytest.raises(HostError, match=r"no cgroup can be made.*emberbox doctor"):
        await make_group(groups, files, SHAPE)


async def test_without_places_there_are_no_limits(files: VmFiles) -> None:
    assert (await make_group(Groups(), files, SHAPE)).directories == ()


@pytest.mark.parametrize("killed", [0, 1])
async def test_a_group_ends_with_its_guest_whose_end_says_what_memory_did(files: VmFiles, killed: int) -> None:
    directory = files.directory / "group"
    directory.mkdir()
    keeper = await process.start(["sleep", "60"])
    group, control = _Counting(directory, killed), Control(files.directory / "nobody")
    vm = GvisorVm(keeper, control, Engine("gVisor", "1", "systrap"), files, None, group, booted=True)
    await vm.kill()
    assert not directory.exists()
    assert ("killed for want of memory" in await vm.wait_exited()) is bool(killed)


class _Counting(Group):
    """A group in which the kernel has killed so many processes; its directory is an empty one."""

    def __init__(self, directory: Path, killed: int) -> None:
        super().__init__([directory])
        self._killed = killed

    def read_passed(self) -> Passed:
        return Passed(memory=self.directories[0].exists() and self._killed > 0)
