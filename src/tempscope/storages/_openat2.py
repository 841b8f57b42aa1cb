"""
Opening a subdirectory without leaving the tree: no link, no mount point, no ``..``.

``openat2(2)`` (Linux 5.6) does it in one call.
Where it is missing or forbidden, the directory is opened plainly and its mount id compared; both
see a bind mount of the same file system, which ``st_dev`` does not.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from tempscope.storages._descriptor import Descriptor


__all__ = [
    "DIRECTORY",
    "let_in",
    "make_private",
    "make_writable",
    "mount_id",
    "open_directory",
    "open_subdirectory",
]

DIRECTORY = (
    getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | os.O_RDONLY
)
"""How a directory of ours is opened: never through a link, never blocking on a FIFO put in its place."""

_SYS_OPENAT2 = 437
_RESOLVE = 0x01 | 0x02 | 0x04 | 0x08  # NO_XDEV | NO_MAGICLINKS | NO_SYMLINKS | BENEATH
_RETRIES = 16


def open_directory(name: str, *, dir_fd: int | None = None) -> Descriptor:
    """Open the directory *name*, which may be a mount point but not a link."""
    return Descriptor.open(name, DIRECTORY, dir_fd=dir_fd)


def open_subdirectory(parent_fd: int, name: str) -> Descriptor:
    """
    Open the directory *name* in the directory *parent_fd*, on the same mount.

    Raises:
        OSError: ``EXDEV`` if it is a mount point, ``ELOOP`` or ``ENOTDIR`` if it is no
            directory, else what the system says.
    """
    syscall = _openat2()
    if syscall is not None:
        descriptor, code = _open_by_syscall(syscall, parent_fd, os.fsencode(name))
        if not code:
            return descriptor
        # Container sandboxes answer EPERM to system calls they do not know.
        if code not in (errno.ENOSYS, errno.EPERM):
            raise OSError(code, os.strerror(code), name)
    return _open_and_compare(parent_fd, name)


def mount_id(fd: int) -> int:
    """
    Return the id of the mount that *fd* is on, or its device number where the kernel does not tell.

    Raises:
        OSError: If there is no descriptor left to ask by.
    """
    text = b""
    try:
        with Descriptor.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY) as info:
            text = os.read(info.fd, 4096)
    except OSError as error:
        # Where the kernel would tell, the device is no answer: a bind mount has the same one.
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
    _, found, rest = text.partition(b"mnt_id:")
    if found:
        return int(rest.split(maxsplit=1)[0])
    return -1 - os.fstat(fd).st_dev


def make_writable(fd: int) -> bool:
    """Give ourselves back the right to change the directory *fd*, if it is our own."""
    try:
        if not _is_withheld(os.fstat(fd)):
            return False
        os.fchmod(fd, 0o700)
    except OSError:
        return False
    return True


def make_private(fd: int) -> bool:
    """Give the file *fd*, which we made, mode 0600; return whether the umask had taken some of that."""
    stripped = stat.S_IMODE(os.fstat(fd).st_mode) != 0o600
    if stripped:
        os.fchmod(fd, 0o600)
    return stripped


def let_in(dir_fd: int, name: str) -> bool:
    """Give ourselves back the right to enter our own directory *name*, without following a link."""
    try:
        with Descriptor.open(name, DIRECTORY | getattr(os, "O_PATH", 0), dir_fd=dir_fd) as handle:
            if not _is_withheld(os.fstat(handle.fd)) or mount_id(handle.fd) != mount_id(dir_fd):
                return False
            # fchmod(2) refuses O_PATH descriptors; the /proc link leads to the held inode, not to a name.
            os.chmod(f"/proc/self/fd/{handle.fd}", 0o700)
    except OSError:
        return False
    return True


def _is_withheld(status: os.stat_result) -> bool:
    """Whether it is ours, but we lack a permission."""
    return status.st_uid == os.geteuid() and status.st_mode & stat.S_IRWXU != stat.S_IRWXU


def _open_and_compare(parent_fd: int, name: str) -> Descriptor:
    if name == ".." or "/" in name:
        raise OSError(errno.EXDEV, "not a name in this directory", name)
    descriptor = open_directory(name, dir_fd=parent_fd)
    if mount_id(descriptor.fd) != mount_id(parent_fd):
        descriptor.close()
        raise OSError(errno.EXDEV, "a mount point", name)
    return descriptor


def _open_by_syscall(syscall: _Syscall, parent_fd: int, name: bytes) -> tuple[Descriptor, int]:
    descriptor, code = Descriptor(), 0
    for _ in range(_RETRIES):
        descriptor.take(syscall.open(parent_fd, name))
        if descriptor.fd >= 0:
            return descriptor, 0
        descriptor.forget()
        # Another call, in a finaliser that ran in between, may have cleared it.
        code = syscall.errno() or errno.EAGAIN
        # EAGAIN: something was renamed meanwhile and the kernel could not tell (openat2(2)).
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    return descriptor, code


class _Syscall(NamedTuple):
    open: Callable[[int, bytes], Iterator[int]]
    errno: Callable[[], int]


@cache
def _openat2() -> _Syscall | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes
    except ImportError:
        return None

    class OpenHow(ctypes.Structure):
        _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]

    how = OpenHow(DIRECTORY | os.O_CLOEXEC, 0, _RESOLVE)
    function: Any = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    number, fixed = ctypes.c_long(_SYS_OPENAT2), (ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)))

    def open_lazily(parent_fd: int, name: bytes) -> Iterator[int]:
        # A map over C functions: the system call runs when the descriptor's list takes its result.
        arguments = (number, ctypes.c_int(parent_fd), ctypes.c_char_p(name), *fixed)
        return map(function, *((argument,) for argument in arguments))

    return _Syscall(open_lazily, ctypes.get_errno)
