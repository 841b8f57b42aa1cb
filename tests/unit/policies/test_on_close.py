"""DeleteOnClose, KeepAll and KeepOnFailure."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta

import attrs
import pytest

from tempscope.errors import ConfigurationError
from tempscope.model import Instant, Verdict
from tempscope.policies import DeleteOnClose, KeepAll, KeepOnFailure


ALL_KINDS = ("ok", "failed", "cancelled", "retry", "never_closed")


@pytest.mark.parametrize("kind", [*ALL_KINDS, None])
def test_delete_on_close_keeps_nothing(scope, survivors, kind):
    """DeleteOnClose deletes at close and in a sweep, whatever the outcome, and may_keep says so."""
    record = scope("a", kind=kind)
    assert not DeleteOnClose().may_keep
    assert DeleteOnClose().at_close(record) == Verdict(keep=False, reason="nothing is kept", token="a")
    assert survivors(DeleteOnClose(), [record, scope("b")]) == ""


@pytest.mark.parametrize("kind", [*ALL_KINDS, None])
def test_keep_all_keeps_everything_without_end(scope, survivors, kind):
    """KeepAll keeps at close and in a sweep, whatever the outcome and without an end."""
    record = scope("a", kind=kind)
    assert KeepAll().may_keep
    assert KeepAll().at_close(record) == Verdict(keep=True, reason="everything is kept", token="a")
    assert survivors(KeepAll(), [record, scope("b", hours=1e6)]) == "ab"


def test_keep_all_does_not_lose_a_time_that_was_written_down(scope, now):
    """What another policy wrote down about a scope's time stays written down under KeepAll."""
    record = scope("a", hours=10, verdict=Verdict(keep=True, until=5.0, for_seconds=7.0))
    (verdict,) = KeepAll().select([record], now)
    assert (verdict.keep, verdict.until, verdict.for_seconds) == (True, 5.0, 7.0)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("on", [("failed", "never_closed"), ("cancelled",), ("ok", "retry")])
def test_keep_on_failure_keeps_the_outcomes_it_was_given(scope, now, kind, on):
    """KeepOnFailure keeps, for its time, exactly the outcomes in `on`, at close as in a sweep."""
    policy = KeepOnFailure(on=on, for_="1h")
    verdict = policy.at_close(scope("a", kind=kind))
    assert policy.may_keep
    assert verdict.keep == (kind in on)
    assert verdict.for_seconds == (3_600 if kind in on else None)
    assert verdict.token == "a"
    assert policy.select([scope("a", kind=kind)], now)[0].keep == (kind in on)


def test_a_scope_without_an_outcome_counts_as_never_closed(scope):
    """A record without an outcome is one that was never closed, and kept as that."""
    assert KeepOnFailure().at_close(scope("a", kind=None, closed=None)).keep
    assert not KeepOnFailure(on=("failed",)).at_close(scope("a", kind=None)).keep


def test_reasons_are_words_without_the_exceptions_text(scope):
    """A verdict says why in words, and never with the exception's text, which may hold secrets."""
    record = attrs.evolve(scope("a"), outcome=attrs.evolve(scope("a").outcome, error="ValueError: hunter2"))
    assert KeepOnFailure().at_close(record).reason == "it failed and is kept for 7d"
    assert KeepOnFailure(for_=None).at_close(record).reason == "it failed"
    assert KeepOnFailure().at_close(scope("a", kind="ok")).reason == "it ended well"
    odd = attrs.evolve(record, outcome=attrs.evolve(record.outcome, kind="exploded"))
    assert KeepOnFailure().at_close(odd) == Verdict(keep=False, reason="it ended as 'exploded'", token="a")


def test_at_most_keeps_the_newest(scope, survivors, now):
    """Of more failures than at_most the newest stay, wherever they stand."""
    kept = [scope("a", 3), scope("b", 1), scope("c", 4), scope("d", 2)]
    policy = KeepOnFailure(at_most=2)
    assert survivors(policy, kept) == "bd"
    assert policy.select(kept, now)[0].reason == "2 newer ones are kept"


def test_what_is_no_failure_counts_nowhere(scope, survivors):
    """Scopes that are no failures, too old or too large go and take no failure's place."""
    kept = [
        scope("a", 0, kind="ok"),
        scope("b", 1, size=10_000),
        scope("c", 2),
        scope("d", 3, size=1024),
        scope("e", 900),
    ]
    assert survivors(KeepOnFailure(at_most=2, up_to="1KiB"), kept) == "cd"


def test_for_counts_from_closing_and_ends_at_the_very_second(scope, survivors, now):
    """A failure stays for the time after its closing, and goes at the very second that ends it."""
    policy = KeepOnFailure(for_="7d")
    kept = [scope("a", 167.999), scope("b", 168), scope("c", 169)]
    assert survivors(policy, kept) == "a"
    assert policy.select(kept, now)[1].reason == "it is older than 7d"
    early = Instant(now.wall - 1e6, now.boot - 1e6, "this")
    assert survivors(policy, [attrs.evolve(scope("a"), opened=early)]) == "a"
    assert survivors(policy, [scope("a", closed=None, opened=early)]) == ""


def test_up_to_keeps_the_newest_that_fit_together(scope, survivors, now):
    """The newest failures that fit into the budget together stay; one newer that does not fit ends it."""
    kept = [scope("a", 4, size=1), scope("b", 1, size=400), scope("c", 2, size=624), scope("d", 3, size=1)]
    policy = KeepOnFailure(up_to="1KiB")
    assert survivors(policy, kept) == "bc"
    assert policy.select(kept, now)[0].reason == "with newer ones it exceeds the budget of 1KiB"


def test_a_scope_larger_than_the_budget_drags_no_other_along(scope, survivors, now):
    """A failure that alone exceeds the budget goes, and older ones that fit stay."""
    kept = [scope("a", 1, size=1025), scope("b", 2, size=1024)]
    policy = KeepOnFailure(up_to="1KiB")
    assert survivors(policy, kept) == "b"
    assert policy.select(kept, now)[0].reason == "it alone exceeds the budget of 1KiB"


def test_none_is_no_bound(scope, survivors):
    """A bound of None bounds nothing."""
    kept = [scope(token, hours=1e5 * n, size=2**60) for n, token in enumerate("abcdefghijklmnop")]
    assert survivors(KeepOnFailure(at_most=None, for_=None, up_to=None), kept) == "abcdefghijklmnop"


def test_a_time_that_was_written_down_is_obeyed(scope, survivors, now):
    """A scope whose own recorded time has passed goes, though this policy would keep it longer."""
    kept = [
        scope("a", 2, verdict=Verdict(keep=True, for_seconds=7_200)),
        scope("b", 2, verdict=Verdict(keep=True, until=now.wall)),
        scope("c", 2, verdict=Verdict(keep=True, until=now.wall + 1, for_seconds=7_201)),
    ]
    policy = KeepOnFailure()
    assert survivors(policy, kept) == "c"
    verdicts = policy.select(kept, now)
    assert verdicts[0].reason == "its time has passed"
    assert (verdicts[2].until, verdicts[2].for_seconds) == (now.wall + 1, 7_201)


def test_a_shorter_time_of_this_policy_is_written_over_a_longer_one(scope, now):
    """Of a recorded time and the policy's own the shorter one stands in the verdict."""
    record = scope("a", verdict=Verdict(keep=True, for_seconds=1e9))
    assert KeepOnFailure(for_="1h").select([record], now)[0].for_seconds == 3_600


def test_never_measured_counts_as_nothing(scope, survivors):
    """A scope that was never measured fits into every budget."""
    assert survivors(KeepOnFailure(up_to="1B"), [scope("a", size=None), scope("b", size=1)]) == "ab"


def test_equal_arguments_make_equal_policies():
    """Policies are values: equal and hashed by what their arguments mean, not by how they are written."""
    policy = KeepOnFailure(on=["never_closed", "failed"], for_="168h", up_to="10240MiB")
    assert policy == KeepOnFailure() == KeepOnFailure(for_=timedelta(days=7))
    assert hash(policy) == hash(KeepOnFailure())
    assert policy != KeepOnFailure(for_="6d")
    assert policy != KeepOnFailure(up_to="10GB")
    assert DeleteOnClose() == DeleteOnClose() != KeepAll()


def test_a_policys_repr_can_be_written_in_a_program():
    """The repr is the call that makes an equal policy."""
    policy = KeepOnFailure(at_most=None, for_="90m")
    shown = "KeepOnFailure(on=('failed', 'never_closed'), at_most=None, for_='1h30m', up_to='10GiB')"
    assert repr(policy) == shown
    assert eval(shown) == policy
    assert repr(DeleteOnClose()) == "DeleteOnClose()"
    assert repr(KeepAll()) == "KeepAll()"


@pytest.mark.parametrize(
    "policy", [DeleteOnClose(), KeepAll(), KeepOnFailure(at_most=3, for_="1h", up_to=None)]
)
def test_policies_are_copied_pickled_and_evolved(scope, policy):
    """A copy, a pickle and an evolved policy decide as the original does."""
    for other in (
        copy.copy(policy),
        copy.deepcopy(policy),
        pickle.loads(pickle.dumps(policy)),
        attrs.evolve(policy),
    ):
        assert other == policy
        assert other.at_close(scope("a")) == policy.at_close(scope("a"))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        policy.on = ("ok",)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("on", "failed", "'never_closed'"),
        ("on", b"failed", "tuple"),
        ("on", (), "one or more"),
        ("on", ("failed", "fialed"), "'failed'"),
        ("on", None, "tuple"),
        ("on", 3, "tuple"),
        ("on", [["failed"]], "tuple"),
        ("at_most", 0, "at least 1"),
        ("at_most", -1, "at least 1"),
        ("at_most", True, "whole number"),
        ("at_most", 1.5, "whole number"),
        ("at_most", "10", "whole number"),
        ("for_", 7, "'24h'"),
        ("for_", float("nan"), "'24h'"),
        ("for_", "0s", "more than zero"),
        ("for_", "forever", "'24h'"),
        ("up_to", 1024, "'10GiB'"),
        ("up_to", "0B", "at least 1B"),
        ("up_to", "lots", "'10GiB'"),
    ],
)
def test_bad_arguments_are_named_with_what_is_allowed(name, value, allowed):
    """A bad argument raises an error that names the argument, the value and what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        KeepOnFailure(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} cannot be {value!r}")
    assert allowed in message


def test_bounds_are_given_by_name():
    """The bounds are given by name only, so that no number is taken for another."""
    with pytest.raises(TypeError):
        KeepOnFailure(10)
