"""What may stay of failed tests, and how much of it."""

from __future__ import annotations

from typing import Literal, TypeAlias, cast, get_args

import attrs
import pytest

from tempscope.policies import DeleteOnClose, KeepAll, KeepOnFailure
from tempscope.protocols import CleanupPolicy
from tempscope.units import format_size, parse_size


__all__ = ["Retention"]

_Of: TypeAlias = Literal["failed", "all", "none"]
# The bounds of what stays are those of the run, below.
_POLICIES: dict[_Of, CleanupPolicy] = {
    "failed": KeepOnFailure(at_most=None, for_=None, up_to=None),
    "all": KeepAll(),
    "none": DeleteOnClose(),
}


@attrs.define(eq=False)
class Retention:
    """
    How much may still stay in this run; under xdist, in this worker.

    Lives as long as the run; used by one test at a time.
    The first failures stay, so that a path that was told to somebody stays true.
    """

    of: _Of
    tests: int
    bytes: int

    @classmethod
    def configured(cls, config: pytest.Config) -> Retention:
        """Return what the configuration file says; pytest stops if that makes no sense."""
        of = config.getini("tempscope_retention_policy") or _as_for_tmp_path(config)
        count = config.getini("tempscope_retention_count")
        if of not in get_args(_Of):
            raise pytest.UsageError(f"tempscope_retention_policy is {of!r}: allowed are failed, all, none")
        if not count.isdecimal():
            raise pytest.UsageError(f"tempscope_retention_count is {count!r}: give a number of tests")
        try:
            size = parse_size(config.getini("tempscope_retention_size"), what="tempscope_retention_size")
        except ValueError as error:
            raise pytest.UsageError(str(error)) from error
        return cls(cast(_Of, of), int(count), size)

    @property
    def policy(self) -> CleanupPolicy:
        """What a scope of a fixture does when it closes."""
        return _POLICIES[self.of]

    def refuses(self, size: int) -> str:
        """Return why a test's scopes of *size* bytes cannot stay too; empty, and counted, if they can."""
        if self.tests < 1:
            return "as many tests' as tempscope_retention_count allows were kept before"
        if size > self.bytes:
            room = format_size(self.bytes)
            return f"they have {format_size(size)}, and tempscope_retention_size leaves {room}"
        self.tests -= 1
        self.bytes -= size
        return ""


def _as_for_tmp_path(config: pytest.Config) -> _Of:
    """Keep nothing where the user wants nothing kept of ``tmp_path`` either."""
    return "none" if config.getini("tmp_path_retention_policy") == "none" else "failed"
