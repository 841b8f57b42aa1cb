"""SizeBudget."""

from __future__ import annotations

import attrs
import pytest

from tempscope.errors import ConfigurationError
from tempscope.model import Usage, Verdict
from tempscope.policies import SizeBudget


def test_every_scope_is_kept_when_it_closes(scope):
    """At close every scope is kept, whatever its size: whether it fits is seen with the others."""
    verdict = SizeBudget("1B").at_close(scope("a", kind="ok", size=99))
    assert SizeBudget("1B").may_keep
    assert verdict == Verdict(keep=True, reason="it ended well and is kept while the budget lasts", token="a")


def test_the_oldest_go_first(scope, survivors, now):
    """Over the budget the oldest go until the rest fits, and none younger is given up for an older one."""
    kept = [scope("a", 4, size=1), scope("b", 1, size=600), scope("c", 2, size=424), scope("d", 3, size=1)]
    assert survivors(SizeBudget("1KiB"), kept) == "bc"
    verdicts = SizeBudget("1KiB").select(kept, now)
    assert verdicts[0].reason == "it is among the oldest and all together exceed the budget of 1KiB"
    assert verdicts[1].reason == "it fits into the budget of 1KiB"


def test_the_largest_go_first_if_asked(scope, survivors):
    """With first="largest" the largest go until the rest fits, of equal ones the older."""
    kept = [scope("a", 9, size=10), scope("b", 1, size=500), scope("c", 2, size=500), scope("d", 3, size=500)]
    assert survivors(SizeBudget("1KiB", first="largest"), kept) == "abc"


@pytest.mark.parametrize("first", ["oldest", "largest"])
def test_a_scope_larger_than_the_budget_drags_no_other_along(scope, survivors, now, first):
    """A scope that alone exceeds the budget goes by itself, however new."""
    policy = SizeBudget(1024, first=first)
    kept = [scope("a", 1, size=1025), scope("b", 2, size=1024)]
    assert survivors(policy, kept) == "b"
    assert policy.select(kept, now)[0].reason == "it alone exceeds the budget of 1KiB"


def test_what_fits_stays(scope, survivors):
    """As long as everything fits, to the byte, everything stays."""
    assert survivors(SizeBudget(30), [scope(t, n, size=10) for n, t in enumerate("abc")]) == "abc"


def test_never_measured_counts_as_nothing(scope, survivors):
    """A scope that was never measured counts as nothing."""
    assert survivors(SizeBudget(10), [scope("a", 2, size=None), scope("b", 1, size=10)]) == "ab"


def test_a_time_that_was_written_down_is_obeyed(scope, survivors, now):
    """A scope whose own recorded time has passed goes and uses nothing of the budget."""
    expired = scope("a", 2, size=10, verdict=Verdict(keep=True, for_seconds=3_600))
    assert survivors(SizeBudget(10), [expired, scope("b", 3, size=10)]) == "b"
    assert SizeBudget(10).select([expired], now)[0].reason == "its time has passed"


def test_it_is_a_value():
    """It equals and is shown by what its arguments mean; a bare number is bytes, as its name says."""
    assert (
        SizeBudget("1KiB")
        == SizeBudget(1024)
        == SizeBudget(max_bytes="1024B")
        == attrs.evolve(SizeBudget(1024))
    )
    assert SizeBudget("1KiB") != SizeBudget("1KiB", first="largest")
    assert repr(SizeBudget(10 * 1024**3)) == "SizeBudget(max_bytes='10GiB', first='oldest')"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_bytes": 0}, r"^max_bytes cannot be 0: .*at least 1B"),
        ({"max_bytes": "-1GiB"}, r"^max_bytes cannot be '-1GiB': .*at least 1B"),
        ({"max_bytes": float("nan")}, r"^max_bytes cannot be nan: .*'10GiB'"),
        ({"max_bytes": True}, r"^max_bytes cannot be True: .*'10GiB'"),
        ({"max_bytes": None}, r"^max_bytes cannot be None: .*'10GiB'"),
        ({"max_bytes": 1, "first": "newest"}, r"^first cannot be 'newest': .*'oldest' or 'largest'"),
        ({"max_bytes": 1, "first": []}, r"^first cannot be \[\]: "),
    ],
)
def test_bad_arguments_are_named_with_what_is_allowed(arguments, message):
    """A bad argument raises an error that names the argument, the value and what is allowed."""
    with pytest.raises(ConfigurationError, match=message):
        SizeBudget(**arguments)


def test_what_other_links_hold_counts_as_nothing(scope, survivors):
    """A scope costs what deleting it would free: a user's own file of which it has a link frees nothing."""
    linked = scope("a", 2, usage=Usage(files=1, bytes=1_000, freeable_bytes=5))
    assert survivors(SizeBudget(10), [linked, scope("b", 1, size=5)]) == "ab"
    assert survivors(SizeBudget(9), [linked, scope("b", 1, size=5)]) == "b"
