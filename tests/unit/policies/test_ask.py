"""Checking policies that somebody else wrote."""

from __future__ import annotations

import pytest

from tempscope.errors import ConfigurationError
from tempscope.model import Verdict
from tempscope.policies import KeepAll, check_policy, verdicts_of


class Shaped:
    """A policy by shape alone, whose verdicts name no scope."""

    may_keep = True

    def at_close(self, record):
        """Keep it."""
        return Verdict(keep=True)

    def select(self, kept, now):
        """Keep them."""
        return tuple(Verdict(keep=True) for _ in kept)


def test_the_shape_alone_makes_a_policy(scope, now):
    """Any object of the right shape is a policy, and its verdicts need not name their scopes."""
    policy = Shaped()
    assert check_policy(policy) is policy
    assert verdicts_of(policy, [scope("a"), scope("b")], now) == [Verdict(keep=True)] * 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (KeepAll, r"policy cannot be the class KeepAll: write KeepAll\(\)"),
        ("keep_all", r"policy cannot be 'keep_all': it has no may_keep and no at_close and no select"),
        (None, r"policy cannot be None: .*such as DeleteOnClose\(\) is expected"),
    ],
)
def test_what_has_another_shape_is_refused(value, message):
    """A class, or an object without the members, is refused with what is missing."""
    with pytest.raises(ConfigurationError, match=message):
        check_policy(value)
