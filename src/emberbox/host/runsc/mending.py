"""Faults of gVisor's that are mended in the program which Debian has (decisions 0061, 0062 and 0064).

**Removed entries of epoll.** What a program had taken out of an epoll instance was told to it again after the next
restore, for ever: those with an event loop ended or ran in circles after their second resume. An entry that is not
ready keeps pointers to its neighbours of then, so those are saved with it although they were removed, and a restored
entry says that it is ready (gVisor, "vfs: clear temporary notReady lists", 31 March 2026). Here
`EpollInstance.removeLocked` sets the mask of what it takes out to 0, as releases do since then, and
`epollInterest.afterLoad` says nothing of an entry that waits for nothing.

**Calls that wait.** A save interrupts them, and they are to begin again unseen. Those of sockets ended with EINTR
(gVisor, "Fix EINTR leakage", 20 May 2026): what interrupted them became an error of the host's kind on its way, which
nobody took for an interruption. Here it becomes gVisor's own, as what would block does. So did opening a FIFO, which
says EINTR itself, and epoll_wait without a limit of time; they begin again unless a signal's handler was called.

**Wake-ups in a circle.** A call that gVisor makes in a program's process, such as the mmap of a fault, ends with a
futex's wake-up, said again until gVisor's thread is found asleep. Where that thread waits for the same processor, which
who wakes it holds, all of its time went by so. Here the processor is given up (sched_yield) before the next wake-up.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberbox.model.errors import HostError

MENDED_SINCE: Final = 20260601
"""The first release after the days on which gVisor mended what programs see: a release is named by its day."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is changed at one place of a program.

    Args:
        offset: where.
        before: what is there.
        after: what is there then, as long.
    """

    offset: int
    before: bytes
    after: bytes

    def __post_init__(self) -> None:
        assert len(self.before) == len(self.after)


@dataclass(frozen=True, slots=True)
class Program:
    """What is changed in one program.

    Args:
        digest: SHA-256 of it as it comes, in hexadecimal.
        changes: all that is changed.
    """

    digest: str
    changes: tuple[Change, ...]


PROGRAMS: Final = (
    Program(  # Debian 13, runsc 20240729.0, amd64
        "ce52e04038baa76d6069afae5fc1bee60c153bbf0276f2c3c25506553526f38f",
        (
            Change(  # EpollInstance.removeLocked: rbx is the entry, its mask is at 0x40, whether it is ready at 0x44
                0x3F72CA,
                bytes.fromhex("807b4400 7415 c6434400"),  # cmpb $0,0x44(rbx); je past; movb $0,0x44(rbx)
                bytes.fromhex(
                    "31c9 894b40 864b44 e311"
                ),  # xor ecx,ecx; mov ecx,0x40(rbx); xchg cl,0x44(rbx); jrcxz past
            ),
            Change(  # syserr.New: edx is the number, rax and rbx become the value and the type of what it is known as
                0x3D1BC1,
                bytes.fromhex(
                    "488b1dc8589101 3913 7510"  # mov EWOULDBLOCK,rbx; cmp edx,(rbx); jne other
                    "488b05d5718e01 488d1d66f7da00 eb07"  # mov ErrWouldBlock,rax; lea type_of_ours,rbx; jmp on
                    "488d1d3df3da00 4881fa86000000"  # other: lea type_of_the_host's,rbx; on: cmp $134,rdx
                ),
                bytes.fromhex(
                    "bb200f5801 83fa04"  # mov type_of_the_host's,ebx; cmp $4,edx
                    "480f4405df718e01"  # cmove ErrInterrupted,rax
                    "740c 83fa0b 750c 488b05c9718e01"  # je ours; cmp $11,edx; jne on; mov ErrWouldBlock,rax
                    "bb40135801 81fa86000000"  # ours: mov type_of_ours,ebx; on: cmp $134,edx
                ),
            ),
            # VFSPipe.Open, for readers and for writers: mov EINTR,rcx becomes mov ERESTARTSYS,rcx
            Change(0x550DE8, bytes.fromhex("488b0d09807601"), bytes.fromhex("488b0dd17f7601")),
            Change(0x550F0C, bytes.fromhex("488b0de57e7601"), bytes.fromhex("488b0dad7e7601")),
            Change(  # waitEpoll, where it asks whether an error of its own is one of the host's: 0x37(rsp), has a limit
                0x7C473D,
                bytes.fromhex("4889b42448010000 488d15d4c79b00 48"),
                bytes.fromhex("807c243700 753e 488b1d85464f01 eb35"),  # cmpb $0; jne on; mov ERESTARTNOHAND,rbx; jmp on
            ),
            Change(  # the stub's end of a call: the futex is at r12; the rest is futex(2)'s arguments, and the loop
                0x9FD47B,
                bytes.fromhex(
                    "4c89e7 48c7c601000000 48c7c201000000"  # mov r12,rdi; mov FUTEX_WAKE,rsi; mov 1,rdx
                    "49c7c200000000 49c7c000000000 49c7c100000000"  # mov 0,r10; mov 0,r8; mov 0,r9
                    "48c7c0ca000000 0f05 4883f801 75f1"  # again: mov SYS_futex,rax; syscall; cmp 1,rax; jne again
                ),
                bytes.fromhex(
                    "4c89e7 be01000000 ba01000000 4531d2 4531c0 4531c9"  # the same arguments
                    "b8ca000000 0f05 ffc8 7414"  # again: mov SYS_futex,eax; syscall; dec eax; je past
                    "b818000000 0f05 ebec 9090909090909090909090"  # mov SYS_sched_yield,eax; syscall; jmp again
                ),
            ),
        ),
    ),
)


def mend(path: Path) -> None:
    """Mend a program that is known, in place; one that is mended already, or is not known, stays as it is.

    Raises:
        HostError: it cannot be written.
    """
    for program in PROGRAMS:
        there = _read_places(path, program)
        is_likely = all(
            found in (change.before, change.after) for found, change in zip(there, program.changes, strict=True)
        )
        if is_likely and not _is_whole(there, program) and _digest_as_it_came(path, program) == program.digest:
            _write(path, program)


def is_mended(path: Path, version: str) -> bool:
    """Say whether a program of such a version is without the faults, as far as it is known."""
    day = version.partition(".")[0].removeprefix("release-")
    if day.isdigit() and int(day) >= MENDED_SINCE:
        return True
    return any(_is_whole(_read_places(path, program), program) for program in PROGRAMS)


def _read_places(path: Path, program: Program) -> list[bytes]:
    """Return what is at each place of a file that is changed in a program."""
    found = []
    with path.open("rb") as file:
        for change in program.changes:
            file.seek(change.offset)
            found.append(file.read(len(change.before)))
    return found


def _is_whole(there: list[bytes], program: Program) -> bool:
    return there == [change.after for change in program.changes]


def _digest_as_it_came(path: Path, program: Program) -> str:
    """Return the digest of a program without what an earlier release of Emberbox has changed."""
    content = bytearray(path.read_bytes())
    for change in program.changes:
        place = slice(change.offset, change.offset + len(change.after))
        if content[place] == change.after:
            content[place] = change.before
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, program: Program) -> None:
    """Put a changed copy in its place: sandboxes that run go on with the file that they have; none sees half of it."""
    copy = path.with_name(f"{path.name}.mended")
    try:
        shutil.copy2(path, copy)
        with copy.open("r+b") as file:
            for change in program.changes:
                file.seek(change.offset)
                file.write(change.after)
            file.flush()
            os.fsync(file.fileno())
        copy.replace(path)
    except OSError as error:
        copy.unlink(missing_ok=True)
        raise HostError(f"{path} cannot be mended: {error.strerror}") from error
