"""
Dependency injection: a container that wires, never owns.

A scope's lifetime is that of a ``with`` in the service that does the job; the container only hands
out what the service needs (docs/explanation tells why).
Nothing else in tempscope imports dependency_injector.
"""

from __future__ import annotations

from tempscope.container._check import check_container
from tempscope.container._per_scope import PerScope
from tempscope.container._storage_choice import use_storage
from tempscope.container._temp_container import TempContainer


__all__ = ["PerScope", "TempContainer", "check_container", "use_storage"]
