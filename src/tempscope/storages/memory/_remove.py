"""
Removing trees from memory, and counting them.

Iterative, whatever the depth.
All callers hold the volume's lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from tempscope.model import Removal, Usage
from tempscope.storages.memory._node import Directory, File, Node
from tempscope.storages.memory._tree import Names, Tree


__all__ = ["discard", "measure", "remove"]

_NOTHING = Removal()


def remove(tree: Tree, names: Names) -> Removal:
    """Remove *names* and all below, in memory and on the disk; what is not there is not counted."""
    try:
        parent, node = tree.find(names)
    except (FileNotFoundError, NotADirectoryError):
        return _NOTHING
    if isinstance(node, Path):
        return _remove_on_disk(tree, names)
    if node is None:
        _forget_name(tree, names)
        return _NOTHING
    if parent is None:
        return _remove_all(tree)
    result = _NOTHING
    if isinstance(node, Directory) and node.shadowed:
        result = _less(_remove_on_disk(tree, names), _shadows(node) + 1)
    result += _cut(tree, node)
    parent.entries.pop(names[-1], None)
    return result


def _remove_all(tree: Tree) -> Removal:
    """Remove all that is in the area; its own directory stays."""
    result = _NOTHING
    if tree.root.shadowed:
        result = _less(_remove_on_disk(tree, ()), _shadows(tree.root))
    return result + _cut_all(tree)


def discard(tree: Tree) -> Removal:
    """Remove all that is in the area for good; from now on none of its names means anything."""
    result = _NOTHING
    if tree.spill is not None and tree.spill.area is not None:
        result = _less(tree.spill.area.remove(), _shadows(tree.root))
    result += _cut_all(tree)
    tree.end()
    return result


def _less(result: Removal, shadows: int) -> Removal:
    """Count what stood both in memory and on the disk once."""
    return attrs.evolve(result, removed=max(0, result.removed - shadows))


def _shadows(top: Node) -> int:
    return sum(isinstance(node, Directory) and node.shadowed for node in _below(top))


def _cut_all(tree: Tree) -> Removal:
    result = _NOTHING
    for node in [node for node in tree.root.entries.values() if isinstance(node, (File, Directory))]:
        result += _cut(tree, node)
    tree.root.entries.clear()
    return result


def _cut(tree: Tree, top: Node) -> Removal:
    """Take one name away from *top* and from each node below it."""
    removed = freed = 0
    for node in [top, *_below(top)]:
        removed += 1
        if isinstance(node, Directory):
            node.entries.clear()
            tree.volume.release(node)
            continue
        node.links -= 1
        if not node.links and not node.handles:
            freed += len(node.data)
            tree.volume.release(node)
    return Removal(removed=removed, removed_bytes=freed)


def _below(top: Node) -> Iterator[Node]:
    waiting = [top]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Directory):
            inside = [child for child in node.entries.values() if isinstance(child, (File, Directory))]
            yield from inside
            waiting += inside


def _remove_on_disk(tree: Tree, names: Names) -> Removal:
    assert tree.spill is not None and tree.spill.area is not None
    result = tree.spill.area.delete(tree.real(names))
    _forget_name(tree, names)
    return result


def _forget_name(tree: Tree, names: Names) -> None:
    """Let the name be made in memory again: whoever was told it as the disk's is done with it."""
    node: object = tree.root
    for name in names[:-1]:
        node = node.entries.get(name) if isinstance(node, Directory) else None
    if (
        isinstance(node, Directory)
        and names
        and not isinstance(node.entries.get(names[-1]), (File, Directory))
    ):
        node.entries.pop(names[-1], None)


def measure(tree: Tree) -> Usage:
    """Count what the area holds in memory, each file once, and what of it is on the disk."""
    nodes = list(_below(tree.root))
    files = {id(node): node for node in nodes if isinstance(node, File)}
    held = sum(len(node.data) for node in files.values())
    inside = sum(id(node) in files for node in nodes)
    directories = sum(isinstance(node, Directory) and not node.shadowed for node in nodes)
    usage = Usage(files=inside, directories=directories, bytes=held, freeable_bytes=held)
    if tree.spill is not None and tree.spill.area is not None:
        usage += tree.spill.area.usage()
    return usage
