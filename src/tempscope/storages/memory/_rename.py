"""
Second names and other names for what is in memory, as ``link(2)`` and ``rename(2)`` give them.

All callers hold the volume's lock.
"""

from __future__ import annotations

import errno
import time
from pathlib import Path

from tempscope.storages.memory._node import Directory, File, Node
from tempscope.storages.memory._tree import Names, Tree, failure


__all__ = ["link", "move"]


def link(source: tuple[Tree, Names], target: tuple[Tree, Names]) -> bool:
    """
    Give the file at *source* a second name, *target*.

    Returns:
        Whether that was possible in memory; False if one of them is on the disk.
    """
    (from_tree, from_names), (to_tree, to_names) = source, target
    shown = from_tree.shown(from_names), to_tree.shown(to_names)
    old = from_tree.find(from_names)[1]
    if isinstance(old, Path):
        return False
    if old is None:
        raise failure(errno.ENOENT, *shown)
    parent, new = to_tree.find(to_names)
    if isinstance(new, Path):
        return False
    if new is not None:
        raise failure(errno.EEXIST, *shown)
    if isinstance(old, Directory):
        raise failure(errno.EPERM, *shown)
    parent = to_tree.changing(parent, to_names)
    parent.entries[to_names[-1]] = old
    old.links += 1
    parent.mtime = parent.ctime = old.ctime = time.time_ns()
    return True


def move(source: tuple[Tree, Names], target: tuple[Tree, Names]) -> bool:
    """
    Rename *source* to *target*, in the place of what may be there.

    Returns:
        Whether that was possible in memory; False if it takes the disk.
    """
    (from_tree, from_names), (to_tree, to_names) = source, target
    shown = from_tree.shown(from_names), to_tree.shown(to_names)
    (leaving, old), (entering, new) = from_tree.find(from_names), to_tree.find(to_names)
    if isinstance(old, Path) or isinstance(new, Path):
        return False
    if leaving is None or entering is None:
        raise failure(errno.EBUSY, *shown)
    if old is None:
        raise failure(errno.ENOENT, *shown)
    if old is new:
        return True
    if any(isinstance(node, Directory) and node.shadowed for node in (old, new)):
        return False
    _check_move(source, target, old, new)
    from_tree.changing(leaving, from_names)
    to_tree.changing(entering, to_names)
    if isinstance(new, File):
        to_tree.drop(entering, to_names[-1], new)
    elif new is not None:
        to_tree.volume.release(new)
    del leaving.entries[from_names[-1]]
    entering.entries[to_names[-1]] = old
    old.ctime = leaving.mtime = leaving.ctime = entering.mtime = entering.ctime = time.time_ns()
    return True


def _check_move(source: tuple[Tree, Names], target: tuple[Tree, Names], old: Node, new: Node | None) -> None:
    (from_tree, from_names), (to_tree, to_names) = source, target
    shown = from_tree.shown(from_names), to_tree.shown(to_names)
    if any(directory is old for directory in to_tree.above(to_names)):
        raise failure(errno.EINVAL, *shown)
    if any(directory is new for directory in from_tree.above(from_names)):
        raise failure(errno.ENOTEMPTY, *shown)
    if isinstance(old, Directory) and isinstance(new, File):
        raise failure(errno.ENOTDIR, *shown)
    if isinstance(old, File) and isinstance(new, Directory):
        raise failure(errno.EISDIR, *shown)
    if isinstance(new, Directory) and new.entries:
        raise failure(errno.ENOTEMPTY, *shown)
