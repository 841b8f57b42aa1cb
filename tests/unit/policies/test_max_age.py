"""ExpireAfter."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest

from tempscope.errors import ConfigurationError
from tempscope.model import Instant, Verdict
from tempscope.policies import ExpireAfter


DAYS = 86_400.0


@pytest.mark.parametrize("kind", ["ok", "failed", "cancelled", "retry", "never_closed"])
def test_every_scope_is_kept_for_the_time(scope, kind):
    """At close every scope is kept for the time, however its job went."""
    verdict = ExpireAfter("24h").at_close(scope("a", kind=kind))
    assert ExpireAfter("24h").may_keep
    assert (verdict.keep, verdict.until, verdict.for_seconds, verdict.token) == (True, None, DAYS, "a")
    assert verdict.reason.endswith(" and is kept for 1d")


def test_a_scope_goes_at_the_very_second_that_ends_its_time(scope, survivors, now):
    """A sweep deletes the scopes of that age and older, and no other."""
    kept = [scope("a", 24), scope("b", 23.999), scope("c", 25), scope("d", -5)]
    assert survivors(ExpireAfter("24h"), kept) == "bd"
    assert ExpireAfter("24h").select(kept, now)[0].reason == "it is older than 1d"


def test_a_clock_that_was_set_forward_makes_nothing_old(scope, survivors, now):
    """Within one boot a wall clock set 30 days ahead deletes only what is old by boot time too."""
    ahead = attrs.evolve(now, wall=now.wall + 30 * DAYS)
    assert survivors(ExpireAfter("24h"), [scope("a", 23), scope("b", 25)], ahead) == "a"


def test_a_clock_that_was_set_back_only_postpones(scope, survivors, now):
    """A wall clock that was set back keeps scopes longer, never shorter."""
    behind = attrs.evolve(now, wall=now.wall - 30 * DAYS)
    assert survivors(ExpireAfter("24h"), [scope("a", 23), scope("b", 25)], behind) == "ab"


@pytest.mark.parametrize("boot_id", ["another", ""])
def test_across_boots_wall_time_alone_decides(scope, survivors, now, boot_id):
    """Of a scope that was closed in another boot, or nobody knows in which, wall time tells the age."""
    old = Instant(now.wall - 2 * DAYS, now.boot, boot_id)
    young = Instant(now.wall - DAYS / 2, now.boot - 9 * DAYS, boot_id)
    assert survivors(ExpireAfter("24h"), [scope("a", closed=old), scope("b", closed=young)]) == "b"


def test_a_time_that_was_written_down_is_obeyed(scope, survivors, now):
    """A scope whose own recorded time has passed goes before its age ends."""
    kept = [scope("a", 2, verdict=Verdict(keep=True, for_seconds=3_600)), scope("b", 2)]
    assert survivors(ExpireAfter("24h"), kept) == "b"
    assert ExpireAfter("24h").select(kept, now)[0].reason == "its time has passed"


def test_a_recorded_date_counts_by_the_surer_clock(scope, survivors, now):
    """A clock that was set ahead of a recorded date does not delete the scope before its boot time agrees."""
    opened = Instant(now.wall - 9_000, now.boot - 9_000, "this")
    record = scope("a", 1, opened=opened, verdict=Verdict(keep=True, until=now.wall + 3_600))
    ahead = attrs.evolve(now, wall=now.wall + 30 * DAYS)
    assert survivors(ExpireAfter("9w"), [record], ahead) == "a"
    before = Instant(now.wall + 3_599, now.boot + 3_599, "this")
    assert survivors(ExpireAfter("9w"), [record], before) == "a"
    later = Instant(now.wall + 3_600, now.boot + 3_600, "this")
    assert survivors(ExpireAfter("9w"), [record], later) == ""
    never = attrs.evolve(record, closed=None, opened=record.closed)
    assert survivors(ExpireAfter("9w"), [never], before) == "a"


def test_it_is_a_value():
    """It equals and is shown by what its argument means."""
    assert (
        ExpireAfter("24h")
        == ExpireAfter("1d")
        == ExpireAfter(timedelta(days=1))
        == attrs.evolve(ExpireAfter("1d"))
    )
    assert hash(ExpireAfter("24h")) == hash(ExpireAfter("1d"))
    assert repr(ExpireAfter("24h")) == "ExpireAfter(ttl='1d')"


@pytest.mark.parametrize(
    "ttl", [0, 3600, -1, float("nan"), float("inf"), "0s", "-1h", "inf", "3000y", None, "5000000w"]
)
def test_a_bad_time_is_named_with_what_is_allowed(ttl):
    """A time that is none, bare, zero, negative, endless or huge raises an error that names it."""
    with pytest.raises(ConfigurationError, match=r"^ttl cannot be .*(must|write|written)"):
        ExpireAfter(ttl)
