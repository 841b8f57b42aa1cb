"""
Second names and other names for what is in memory, as ``link(2)`` and ``rename(2)`` give them.

All callers hold the volume's lock.
"""

from __future__ import annotations

import errno
import time
from pathlib import Path

from tempscope.storages.memory._node import Directory, File
from tempscope.storages.memory._tree import Names, Spot, Tree, failure


__all__ = ["link", "move"]


def link(source: tuple[Tree, Names], target: tuple[Tree, Names]) -> bool:
    """
    Give the file at *source* a second name, *target*.

    Returns:
        Whether that was possible in memory; False if one of them is on the disk.
    """
    (from_tree, from_names), (to_tree, to_names) = source, target
    shown = from_tree.shown(from_names), to_tree.shown(to_names)
    old = from_tree.find(from_names)
    if isinstance(old, Path):
        return False
    if old.node is None:
        raise failure(errno.ENOENT, *shown)
    new = to_tree.find(to_names)
    if isinstance(new, Path):
        return False
    if new.node is not None:
        raise failure(errno.EEXIST, *shown)
    if isinstance(old.node, Directory):
        raise failure(errno.EPERM, *shown)
    parent = to_tree.changing(new, to_names)
    parent.entries[to_names[-1]] = old.node
    old.node.links += 1
    parent.mtime = parent.ctime = old.node.ctime = time.time_ns()
    return True


def move(source: tuple[Tree, Names], target: tuple[Tree, Names]) -> bool:
    """
    Rename *source* to *target*, in the place of what may be there.

    Returns:
        Whether that was possible in memory; False if it takes the disk.
    """
    (from_tree, from_names), (to_tree, to_names) = source, target
    shown = from_tree.shown(from_names), to_tree.shown(to_names)
    old, new = from_tree.find(from_names), to_tree.find(to_names)
    if isinstance(old, Path) or isinstance(new, Path):
        return False
    if old.parent is None or new.parent is None:
        raise failure(errno.EBUSY, *shown)
    if old.node is None:
        raise failure(errno.ENOENT, *shown)
    if old.node is new.node:
        return True
    if any(isinstance(spot.node, Directory) and spot.node.shadowed for spot in (old, new)):
        return False
    _check_move(source, target, old, new)
    leaving, entering = from_tree.changing(old, from_names), to_tree.changing(new, to_names)
    if isinstance(new.node, File):
        to_tree.drop(entering, to_names[-1], new.node)
    elif new.node is not None:
        to_tree.volume.release(new.node)
    del leaving.entries[from_names[-1]]
    entering.entries[to_names[-1]] = old.node
    old.node.ctime = leaving.mtime = leaving.ctime = entering.mtime = entering.ctime = time.time_ns()
    return True


def _check_move(source: tuple[Tree, Names], target: tuple[Tree, Names], old: Spot, new: Spot) -> None:
    (from_tree, from_names), (to_tree, to_names) = source, target
    shown = from_tree.shown(from_names), to_tree.shown(to_names)
    if any(directory is old.node for directory in to_tree.above(to_names)):
        raise failure(errno.EINVAL, *shown)
    if any(directory is new.node for directory in from_tree.above(from_names)):
        raise failure(errno.ENOTEMPTY, *shown)
    if new.node is None:
        return
    if isinstance(old.node, Directory) and isinstance(new.node, File):
        raise failure(errno.ENOTDIR, *shown)
    if isinstance(old.node, File) and isinstance(new.node, Directory):
        raise failure(errno.EISDIR, *shown)
    if isinstance(new.node, Directory) and new.node.entries:
        raise failure(errno.ENOTEMPTY, *shown)
