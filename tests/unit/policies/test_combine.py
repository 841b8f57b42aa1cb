"""keep_if_any, keep_if_all and in_order."""

from __future__ import annotations

import attrs
import pytest

from tempscope.errors import ConfigurationError
from tempscope.model import Verdict
from tempscope.policies import (
    DeleteOnClose,
    ExpireAfter,
    KeepAll,
    KeepLast,
    KeepOnFailure,
    SizeBudget,
    in_order,
    keep_if_all,
    keep_if_any,
)


COMBINATORS = (keep_if_any, keep_if_all, in_order)


@attrs.frozen
class Says:
    """A policy that says the same about everything, and remembers what it was asked about."""

    keep: bool
    reason: str = ""
    until: float | None = None
    for_seconds: float | None = None
    asked: list = attrs.field(factory=list, eq=False, repr=False)

    @property
    def may_keep(self):
        """Whether it says keep."""
        return self.keep

    def at_close(self, record):
        """Say it."""
        self.asked.append(record.token)
        return Verdict(self.keep, self.reason, self.until, self.for_seconds)

    def select(self, kept, now):
        """Say it of each."""
        return [self.at_close(record) for record in kept]


def both_ways(policy, record, now):
    """Return what *policy* says about *record* at close, having made sure that a sweep says the same."""
    verdict = policy.at_close(record)
    assert policy.select([record], now) == [verdict]
    assert verdict.token == record.token
    return verdict


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_any_keeps_what_one_keeps_and_all_what_each_keeps(scope, now, first, second):
    """keep_if_any is "or", keep_if_all and in_order are "and": at close, in a sweep and in may_keep."""
    for combine, expected in zip(
        COMBINATORS, (first or second, first and second, first and second), strict=True
    ):
        policy = combine(Says(first), Says(second))
        assert both_ways(policy, scope("a"), now).keep == expected
        assert policy.may_keep == expected


def test_reasons_are_those_that_decided(scope, now):
    """The reason joins those of the members that decided, each once, leaving out empty ones."""
    p, q, r = Says(True, "p"), Says(False, "q"), Says(False, "r")
    assert (
        both_ways(keep_if_any(p, q, Says(True, "s"), Says(True, "p"), Says(True)), scope("a"), now).reason
        == "p; s"
    )
    assert both_ways(keep_if_any(q, r), scope("a"), now).reason == "q; r"
    assert both_ways(keep_if_all(p, q, r), scope("a"), now).reason == "q; r"
    assert both_ways(keep_if_all(p, Says(True, "s")), scope("a"), now).reason == "p; s"
    assert both_ways(in_order(p, q, r), scope("a"), now).reason == "q"
    assert both_ways(in_order(p, Says(True, "s")), scope("a"), now).reason == "p; s"


@pytest.mark.parametrize("combine", [keep_if_all, in_order])
def test_all_ends_with_the_first_that_lets_go(scope, now, combine):
    """Under keep_if_all and in_order a scope stays until the first of the members lets it go."""
    policy = combine(Says(True, until=90.0), Says(True, for_seconds=5.0), Says(True, until=80.0), Says(True))
    verdict = both_ways(policy, scope("a"), now)
    assert (verdict.until, verdict.for_seconds) == (80.0, 5.0)
    endless = both_ways(combine(Says(True), Says(True)), scope("a"), now)
    assert (endless.until, endless.for_seconds) == (None, None)


def test_any_ends_with_the_last_that_lets_go(scope, now):
    """Under keep_if_any a scope stays until the last of those that keep it lets it go."""
    record = scope("a")
    dates = both_ways(keep_if_any(Says(True, until=90.0), Says(True, until=80.0), Says(False)), record, now)
    assert (dates.until, dates.for_seconds) == (90.0, None)
    times = both_ways(keep_if_any(Says(True, for_seconds=9.0), Says(True, for_seconds=8.0)), record, now)
    assert (times.until, times.for_seconds) == (None, 9.0)


def test_any_never_ends_if_one_names_no_end(scope, now):
    """Under keep_if_any one member that keeps without an end outweighs those that name one."""
    policy = keep_if_any(Says(True, until=90.0), Says(True), Says(True, for_seconds=8.0))
    verdict = both_ways(policy, scope("a"), now)
    assert (verdict.until, verdict.for_seconds) == (None, None)


def test_any_compares_dates_and_times_from_the_closing(scope, now):
    """Under keep_if_any dates and times are compared as seconds after closing, each by its earlier end."""
    record = scope("a", 1)
    until = record.closed.wall + 20
    record = attrs.evolve(record, opened=attrs.evolve(record.opened, wall=record.opened.wall - 7))
    policy = keep_if_any(Says(True, until=until), Says(True, for_seconds=10.0))
    assert both_ways(policy, record, now).for_seconds == 20
    policy = keep_if_any(Says(True, until=until, for_seconds=5.0), Says(True, for_seconds=10.0))
    assert both_ways(policy, record, now).for_seconds == 10
    never = scope("a", closed=None, opened=record.closed)  # counts from its opening
    assert (
        keep_if_any(Says(True, until=until), Says(True, for_seconds=10.0)).at_close(never).for_seconds == 20
    )


def test_in_order_asks_about_what_the_earlier_ones_kept(scope, now):
    """Under in_order a member is asked only about what those before it kept, at close too."""
    last = Says(True)
    policy = in_order(KeepOnFailure(), last)
    verdicts = policy.select([scope("a", kind="ok"), scope("b"), scope("c", kind="ok"), scope("d")], now)
    assert last.asked == ["b", "d"]
    assert [v.keep for v in verdicts] == [False, True, False, True]
    policy.at_close(scope("e", kind="ok"))
    assert last.asked == ["b", "d"]


def test_a_budget_in_order_is_spent_on_what_stays_anyway(scope, survivors):
    """Under in_order a budget does not count what goes anyway; under keep_if_all it does."""
    kept = [scope("a", 1, kind="ok", size=10), scope("b", 2, size=10)]
    assert survivors(in_order(KeepOnFailure(), SizeBudget(10)), kept) == "b"
    assert survivors(keep_if_all(KeepOnFailure(), SizeBudget(10)), kept) == ""


def test_a_scope_told_twice_gets_one_verdict(scope, survivors):
    """A scope that a storage tells twice gets the same verdict twice from each combination."""
    kept = [scope("a", 1), scope("b", 2), scope("a", 1)]
    for combine in COMBINATORS:
        assert survivors(combine(KeepLast(1), KeepAll()), kept) in ("aa", "aba")


def test_combinations_nest(scope, survivors):
    """A combination is a policy and may stand in another."""
    policy = in_order(keep_if_any(KeepOnFailure(), ExpireAfter("1h")), SizeBudget(20))
    kept = [
        scope("a", 2, kind="ok", size=1),
        scope("b", 0.5, kind="ok", size=10),
        scope("c", 3, size=10),
        scope("d", 4, size=10),
    ]
    assert survivors(policy, kept) == "bc"
    assert not keep_if_all(keep_if_any(DeleteOnClose()), KeepAll()).may_keep


@pytest.mark.parametrize("combine", COMBINATORS)
def test_nothing_kept_is_nothing_decided(now, combine):
    """About no scopes there are no verdicts."""
    assert combine(KeepAll(), DeleteOnClose()).select([], now) == []


@pytest.mark.parametrize("combine", COMBINATORS)
def test_combinations_are_values(combine):
    """A combination equals another of equal members, and is shown as the call that makes it."""
    policy = combine(KeepAll(), ExpireAfter("1d"))
    assert policy == combine(KeepAll(), ExpireAfter("24h")) != combine(ExpireAfter("1d"), KeepAll())
    assert hash(policy) == hash(combine(KeepAll(), ExpireAfter("24h")))
    assert repr(policy) == f"{combine.__name__}(KeepAll(), ExpireAfter(ttl='1d'))"


@pytest.mark.parametrize("combine", COMBINATORS)
def test_members_must_be_policies(combine):
    """No member, a class in place of a policy, and what is no policy, are refused by name."""
    name = combine.__name__
    with pytest.raises(ConfigurationError, match=rf"{name}\(\) needs at least one policy"):
        combine()
    with pytest.raises(
        ConfigurationError, match=rf"argument 2 of {name} cannot be the class KeepAll: write KeepAll\(\)"
    ):
        combine(KeepAll(), KeepAll)
    with pytest.raises(
        ConfigurationError, match=rf"argument 1 of {name} cannot be 'keep_all': it has no may_keep and"
    ):
        combine("keep_all")


@pytest.mark.parametrize("combine", COMBINATORS)
def test_a_member_that_answers_in_another_shape_decides_nothing(scope, now, combine):
    """A member that gives too many, too few or other scopes' verdicts raises, so that nothing is deleted."""

    @attrs.frozen
    class Odd(Says):
        answer: list = attrs.field(factory=list)

        def select(self, kept, now):
            return self.answer

    stay = Verdict(keep=True)
    for answer in ([], [stay], [stay] * 3):
        with pytest.raises(ConfigurationError, match=rf"Odd.* gave {len(answer)} verdicts about 2 scopes"):
            combine(KeepAll(), Odd(True, answer=answer)).select([scope("a"), scope("b")], now)
    swapped = [Verdict(keep=True, token="b"), Verdict(keep=False, token="a")]
    with pytest.raises(ConfigurationError, match=r"gave a verdict about 'b' where one about 'a' belongs"):
        combine(KeepAll(), Odd(True, answer=swapped)).select([scope("a"), scope("b")], now)
