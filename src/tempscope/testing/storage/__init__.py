"""
The conformance suite for storages: a class to inherit from, and one fixture to give.

::

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def storage(self):
            with MyStorage() as storage:
                yield storage

Each test has the number of its clause in ``docs/reference/contract.md``, and that clause's sentence
as its docstring.
Whoever keeps only some of the promises adopts only some of the chapters.
"""

from __future__ import annotations

from tempscope.testing.storage._chapter import Chapter
from tempscope.testing.storage.accounting import Accounting
from tempscope.testing.storage.capabilities import Capabilities
from tempscope.testing.storage.concurrency import Concurrency
from tempscope.testing.storage.deletion import Deletion
from tempscope.testing.storage.errors import Errors
from tempscope.testing.storage.isolation import Isolation
from tempscope.testing.storage.names import Names
from tempscope.testing.storage.publish import Publish
from tempscope.testing.storage.read_back import ReadBack
from tempscope.testing.storage.staging import Staging
from tempscope.testing.storage.sweep import Sweep


__all__ = [
    "Accounting",
    "Capabilities",
    "Chapter",
    "Concurrency",
    "Deletion",
    "Errors",
    "Isolation",
    "Names",
    "Publish",
    "ReadBack",
    "Staging",
    "StorageContract",
    "Sweep",
]


class StorageContract(
    Names,
    ReadBack,
    Isolation,
    Deletion,
    Publish,
    Staging,
    Errors,
    Accounting,
    Concurrency,
    Capabilities,
    Sweep,
):
    """
    All chapters: what every :class:`~tempscope.TempStorage` promises.

    Lives as pytest makes it, one instance a test.
    Inherit from it, and give the fixture ``storage``; ``peek`` may be given as well.
    """
