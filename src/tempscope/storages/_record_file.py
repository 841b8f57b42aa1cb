"""
The record that lies in a kept or waiting scope, among its files.

It is put there whole, by a rename: nobody ever reads half of one, and nothing that stands under
its name, a link or a FIFO that a program made, is ever opened for writing.
"""

from __future__ import annotations

import errno
import os

from tempscope.model import ScopeRecord
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._openat2 import make_private
from tempscope.storages._records import MAX_RECORD_BYTES, decode_record, encode_record


__all__ = ["RECORD", "read_record", "write_record", "write_whole"]

RECORD = ".tempscope-record"
"""The file in a kept scope that says whose it is; names that begin so are reserved."""

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def write_record(dir_fd: int, record: ScopeRecord) -> None:
    """
    Put *record* into the directory *dir_fd*.

    Raises:
        OSError: If there is no room, or the system refuses; what was there before stays.
    """
    write_whole(dir_fd, RECORD, encode_record(record))


def write_whole(dir_fd: int, name: str, data: bytes) -> None:
    """
    Put *data* into the directory *dir_fd* as *name*, one of our reserved names.

    Raises:
        OSError: As for :func:`write_record`.
    """
    new = f"{name}.new"
    try:
        with _open_new(dir_fd, new) as file:
            if os.write(file.fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            make_private(file.fd)
            file.finish()
        os.rename(new, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError:
        _remove_new(dir_fd, new)
        raise


def _open_new(dir_fd: int, new: str) -> Descriptor:
    try:
        return Descriptor.open(new, _WRITE, 0o600, dir_fd=dir_fd)
    except FileExistsError:
        # What a killed process left here.
        os.unlink(new, dir_fd=dir_fd)
        return Descriptor.open(new, _WRITE, 0o600, dir_fd=dir_fd)


def _remove_new(dir_fd: int, new: str) -> None:
    try:
        os.unlink(new, dir_fd=dir_fd)
    except OSError:
        # It goes with the scope.
        pass


def read_record(dir_fd: int) -> ScopeRecord | None:
    """Return the record in the directory *dir_fd*, or None if it holds none; never raises, never blocks."""
    try:
        with Descriptor.open(RECORD, _READ, dir_fd=dir_fd) as file:
            return decode_record(os.read(file.fd, MAX_RECORD_BYTES + 1))
    except OSError:
        return None
