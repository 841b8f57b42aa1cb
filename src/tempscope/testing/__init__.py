"""
For those who write storages and policies, and for the tests of services.

:class:`StorageContract` and :class:`PolicyContract` are conformance suites to inherit from, and need
pytest; :class:`FakeClock`, :class:`FaultyStorage` and :class:`RecordingStorage` are fakes, and need
nothing.
A state machine for hypothesis is in :mod:`tempscope.testing.stateful`.
Importing :mod:`tempscope` never imports this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tempscope._late import late


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

__getattr__ = late(
    __name__,
    {
        "Call": "tempscope.testing.recording",
        "FakeClock": "tempscope.testing.clock",
        "FaultyStorage": "tempscope.testing.faulty",
        "PolicyContract": "tempscope.testing.policies",
        "RecordingStorage": "tempscope.testing.recording",
        "StorageContract": "tempscope.testing.storage",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
