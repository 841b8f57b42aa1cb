"""A container as a graph: which providers there are, by what name, and what each one holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import attrs
from dependency_injector import containers, providers

from tempscope.container._storage_choice import StorageChoice


AnyContainer: TypeAlias = containers.Container | type[containers.DeclarativeContainer]
Provider: TypeAlias = providers.Provider[Any]

LONG_LIVED = (providers.BaseSingleton, providers.BaseResource)
"""Providers whose objects outlive the jobs they were first made for."""

_CONTAINERS = (providers.Container, providers.DependenciesContainer)
_HOLDS_NOTHING = (
    providers.Delegate,
    providers.Self,
    *_CONTAINERS,
    providers.Configuration,
    providers.ConfigurationOption,
)


@attrs.frozen
class Node:
    """
    One provider of a container.

    Attributes:
        path: How to reach it: ``temp.storage[disk]``, ``service(cutter=)``.

        provider: As it stands in the container; see :func:`effective`.
    """

    path: str
    provider: Provider = attrs.field(eq=False)


def effective(provider: Provider) -> Provider:
    """Return what answers for *provider*: the last override, or itself."""
    while provider.last_overriding is not None:
        provider = provider.last_overriding
    return provider


def nodes(container: AnyContainer) -> list[Node]:
    """Return every provider of *container* and of what it nests once, by its name or shortest path."""
    found: dict[int, Node] = {}
    waiting = [*_named("", container)]
    while waiting:
        further: list[Node] = []
        for node in waiting:
            if id(node.provider) not in found:
                found[id(node.provider)] = node
                further.extend(_below(node))
        waiting = further
    return list(found.values())


def _named(prefix: str, container: Any) -> Iterator[Node]:
    for name, provider in container.providers.items():
        yield Node(f"{prefix}{name}", provider)
        if isinstance(provider, _CONTAINERS):
            yield from _named(f"{prefix}{name}.", provider)


def _below(node: Node) -> Iterator[Node]:
    answering = effective(node.provider)
    if answering is not node.provider:
        yield Node(f"{node.path}, overridden", answering)
    for label, child in _children(node.provider):
        if providers.is_provider(child):
            yield Node(f"{node.path}{label}", child)


def _children(provider: Any) -> Iterator[tuple[str, Any]]:
    labelled = [*arguments(provider)]
    if isinstance(provider, (providers.Selector, providers.Aggregate)):
        labelled += ((f"[{name}]", child) for name, child in provider.providers.items())
    yield from labelled
    # Of the overrides only the last one counts, and that is asked for by effective().
    known = {id(child) for child in (*provider.overridden, *(child for _, child in labelled))}
    yield from (("", child) for child in provider.related if id(child) not in known)


def arguments(provider: Any) -> Iterator[tuple[str, Any]]:
    """Yield what *provider* passes on, constants too, each with a label such as ``(cutter=)``."""
    yield from ((f"({number})", value) for number, value in enumerate(_own(provider, "args", ())))
    yield from ((f"({name}=)", value) for name, value in _own(provider, "kwargs", {}).items())
    yield from ((f".{name}", value) for name, value in _own(provider, "attributes", {}).items())


def _own(provider: Provider, name: str, otherwise: Any) -> Any:
    """Return an attribute of *provider*'s class; its own ``__getattr__`` would invent one."""
    return getattr(provider, name) if hasattr(type(provider), name) else otherwise


def held(provider: Provider) -> Iterator[tuple[str, Any]]:
    """
    Yield what an object of *provider* is made from, and so can keep hold of.

    A provider that is passed on uncalled is not among it: calling it later gives what is right
    then.
    """
    provider = effective(provider)
    if isinstance(provider, _HOLDS_NOTHING):
        return
    for label, child in _children(provider):
        if not providers.is_delegated(child):
            yield label, child


def reached(start: Node) -> Iterator[Node]:
    """
    Yield what is held by objects of *start*, directly or through what they are made from.

    Constants too, so a node's provider here can be any object.
    Stops at other long-lived objects, which answer for themselves, and at the storage.
    """
    seen: set[int] = set()
    waiting = [Node(start.path + label, child) for label, child in held(start.provider)]
    while waiting:
        node = waiting.pop()
        if id(node.provider) in seen:
            continue
        seen.add(id(node.provider))
        yield node
        if _is_looked_through(node.provider):
            waiting.extend(Node(node.path + label, child) for label, child in held(node.provider))


def _is_looked_through(thing: Any) -> bool:
    return (
        providers.is_provider(thing)
        and not isinstance(thing, StorageChoice)
        and not isinstance(effective(thing), LONG_LIVED)
    )
