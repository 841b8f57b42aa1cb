"""
For those who write storages and policies, and for the tests of services.

:class:`StorageContract` and :class:`PolicyContract` are conformance suites to inherit from, and need
pytest; :class:`FakeClock`, :class:`FaultyStorage` and :class:`RecordingStorage` are fakes, and need
nothing.
A state machine for hypothesis is in :mod:`tempscope.testing.stateful`.
Importing :mod:`tempscope` never imports this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING


try:
    import pytest
except ImportError:
    # The fakes do without; the suites, which cannot, say so when they are imported.
    pass
else:
    # Before the suites are imported, or a failing clause would show an assertion without its values.
    pytest.register_assert_rewrite("tempscope.testing.policies", "tempscope.testing.storage")

if TYPE_CHECKING:
    from tempscope.testing.clock import FakeClock
    from tempscope.testing.faulty import FaultyStorage
    from tempscope.testing.policies import PolicyContract
    from tempscope.testing.recording import Call, RecordingStorage
    from tempscope.testing.storage import StorageContract

__all__ = ["Call", "FakeClock", "FaultyStorage", "PolicyContract", "RecordingStorage", "StorageContract"]

_HOMES = {
    "Call": "recording",
    "FakeClock": "clock",
    "FaultyStorage": "faulty",
    "PolicyContract": "policies",
    "RecordingStorage": "recording",
    "StorageContract": "storage",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
