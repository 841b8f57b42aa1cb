"""What holds for every policy here, and for every combination of them."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempscope.model import Instant, Outcome, ScopeRecord, Usage, Verdict
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


# Few different values, so that ties, equal sizes and clocks that disagree are common.
instants = st.builds(
    Instant,
    wall=st.integers(0, 40).map(float),
    boot=st.integers(0, 40).map(float),
    boot_id=st.sampled_from(["", "this", "another"]),
)
times = st.none() | st.integers(0, 40).map(float)
records = st.lists(
    st.builds(
        ScopeRecord,
        token=st.text("abcdef", min_size=1, max_size=3),
        label=st.sampled_from([None, "x", "y"]),
        opened=instants,
        closed=st.none() | instants,
        outcome=st.none()
        | st.sampled_from(["ok", "failed", "cancelled", "retry", "never_closed"]).map(Outcome),
        usage=st.none() | st.integers(0, 10).map(lambda size: Usage(bytes=size)),
        verdict=st.none() | st.builds(Verdict, keep=st.just(True), until=times, for_seconds=times),
    ),
    max_size=10,
    unique_by=lambda record: record.token,
)
durations = st.integers(1, 40).map(lambda seconds: f"{seconds}s")
sizes = st.integers(1, 30).map(lambda size: f"{size}B")
simple = st.one_of(
    st.just(DeleteOnClose()),
    st.just(KeepAll()),
    st.builds(
        KeepOnFailure,
        on=st.lists(st.sampled_from(["ok", "failed", "cancelled", "never_closed"]), min_size=1),
        at_most=st.none() | st.integers(1, 5),
        for_=st.none() | durations,
        up_to=st.none() | sizes,
    ),
    st.builds(ExpireAfter, durations),
    st.builds(KeepLast, st.integers(1, 4), st.sampled_from(["label", "name", "application"])),
    st.builds(SizeBudget, sizes, first=st.sampled_from(["oldest", "largest"])),
)
policies = st.recursive(
    simple,
    lambda inner: st.builds(
        lambda combine, members: combine(*members),
        st.sampled_from([keep_if_any, keep_if_all, in_order]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)


def kept_by(policy, kept, now):
    """Return those of *kept* that *policy* keeps."""
    return [record for record, verdict in zip(kept, policy.select(kept, now), strict=True) if verdict.keep]


@given(policies, records, instants)
def test_a_policy_is_total(policy, kept, now):
    """About any records there is one verdict each, in the same order, naming its scope and its reason."""
    verdicts = policy.select(kept, now)
    assert [verdict.token for verdict in verdicts] == [record.token for record in kept]
    assert all(verdict.reason for verdict in verdicts)
    assert all(policy.at_close(record).token == record.token for record in kept)


@given(policies, records, instants, st.randoms(use_true_random=False))
def test_a_policy_does_not_depend_on_the_order(policy, kept, now, random):
    """The same records in another order get the same verdicts."""
    shuffled = random.sample(kept, len(kept))
    expected = {verdict.token: verdict for verdict in policy.select(kept, now)}
    assert {verdict.token: verdict for verdict in policy.select(shuffled, now)} == expected


@given(policies, records, instants, st.booleans())
def test_a_second_pass_finds_nothing_more(policy, kept, now, written):
    """What a policy kept it keeps when asked again, also once its verdicts were written down."""
    verdicts = policy.select(kept, now)
    staying = [
        attrs.evolve(record, verdict=verdict) if written else record
        for record, verdict in zip(kept, verdicts, strict=True)
        if verdict.keep
    ]
    assert kept_by(policy, staying, now) == staying


@given(policies, records, instants, st.data())
def test_less_to_keep_never_means_that_less_is_kept(policy, kept, now, data):
    """What a policy keeps among many it keeps among some of them."""
    fewer = [record for record in kept if data.draw(st.booleans())]
    stayed = {record.token for record in kept_by(policy, kept, now)}
    assert stayed & {r.token for r in fewer} <= {r.token for r in kept_by(policy, fewer, now)}


@given(policies, records, instants)
def test_what_may_keep_nothing_keeps_nothing(policy, kept, now):
    """A policy whose may_keep is False keeps nothing at close and nothing in a sweep."""
    if not policy.may_keep:
        assert not any(policy.at_close(record).keep for record in kept)
        assert kept_by(policy, kept, now) == []


@given(
    st.sampled_from([DeleteOnClose(), KeepAll()]) | st.builds(ExpireAfter, durations),
    records,
    instants,
    st.integers(0, 20),
)
def test_time_only_takes_away(policy, kept, now, seconds):
    """As time passes alike on both clocks, nothing comes back."""
    later = attrs.evolve(now, wall=now.wall + seconds, boot=now.boot + seconds)
    if isinstance(policy, (DeleteOnClose, KeepAll, ExpireAfter)):
        assert {r.token for r in kept_by(policy, kept, later)} <= {
            r.token for r in kept_by(policy, kept, now)
        }


@given(records, instants, st.integers(1, 30), st.sampled_from(["oldest", "largest"]))
def test_a_pass_ends_within_the_budget(kept, now, budget, first):
    """What a budget keeps is never over it, and nothing that fitted whole was deleted."""
    staying = kept_by(SizeBudget(budget, first=first), kept, now)
    assert sum(record.usage.bytes for record in staying if record.usage) <= budget
    alive = [record for record in kept if not record.expired(now)]
    if sum(record.usage.bytes for record in alive if record.usage) <= budget:
        assert staying == alive


@pytest.mark.parametrize(
    "policy", [DeleteOnClose(), KeepAll(), KeepOnFailure(), ExpireAfter("1d"), SizeBudget(9), KeepLast(2)]
)
def test_a_policy_leaves_what_it_is_asked_about_alone(policy):
    """Asking changes neither the list nor, as they are frozen, the records."""
    kept = [ScopeRecord(token=token, opened=Instant(1.0, 1.0)) for token in "cab"]
    before = list(kept)
    policy.select(kept, Instant(2.0, 2.0))
    assert kept == before
