"""Calls made at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar


__all__ = ["together"]

_T = TypeVar("_T")
_PATIENCE = 60.0


def together(calls: Sequence[Callable[[], _T]]) -> list[_T | Exception]:
    """
    Make all *calls* at once, each in a thread of its own.

    Returns:
        What each gave or raised, in the order of *calls*.
    """
    start = threading.Barrier(len(calls))
    results: dict[int, _T | Exception] = {}

    def run(number: int, call: Callable[[], _T]) -> None:
        start.wait(_PATIENCE)
        try:
            results[number] = call()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE)
    assert len(results) == len(calls), f"{len(calls) - len(results)} of {len(calls)} calls never came back"
    return [results[number] for number in range(len(calls))]
