"""KeepLast."""

from __future__ import annotations

import attrs
import pytest

from tempscope.errors import ConfigurationError
from tempscope.model import Instant, Verdict
from tempscope.policies import KeepLast


def test_every_scope_is_the_newest_when_it_closes(scope):
    """At close every scope is kept, without an end, however its job went."""
    verdict = KeepLast(1).at_close(scope("a", kind="ok"))
    assert KeepLast(1).may_keep
    assert verdict == Verdict(keep=True, reason="it ended well and is the newest", token="a")


def test_the_newest_of_each_label_stay(scope, survivors, now):
    """A sweep keeps the newest n of each label; scopes without a label are one kind."""
    kept = [
        scope("a", 3, label="cut"),
        scope("b", 1, label="cut"),
        scope("c", 2, label="cut"),
        scope("d", 9, label="mux"),
        scope("e", 7),
        scope("f", 8),
        scope("g", 9),
    ]
    assert survivors(KeepLast(2), kept) == "bcdef"
    verdicts = KeepLast(2).select(kept, now)
    assert verdicts[0].reason == "2 newer ones of the same label are kept"
    assert verdicts[1].reason == "it is among the newest 2 of the same label"


@pytest.mark.parametrize(("per", "expected"), [("label", "ac"), ("name", "ab"), ("application", "a")])
def test_per_says_what_makes_a_kind(scope, survivors, per, expected):
    """`per` counts by label, by the job's name, or all scopes of the application together."""
    kept = [
        scope("a", 1, label="x", name="1"),
        scope("b", 2, label="x", name="2"),
        scope("c", 3, label="y", name="1"),
    ]
    assert survivors(KeepLast(1, per), kept) == expected


def test_of_one_moment_the_token_decides(scope, survivors):
    """Scopes closed at the same moment are ordered by token, so that every sweep agrees."""
    assert survivors(KeepLast(1), [scope("b"), scope("c"), scope("a")]) == "c"
    elsewhere = Instant(5.0, 5.0, "another")
    assert survivors(KeepLast(1), [scope(token, closed=elsewhere) for token in "bca"]) == "c"


def test_within_this_boot_boot_time_orders(scope, survivors, now):
    """Scopes of the present boot are ordered by boot time, though the wall clock was set back between."""
    first = scope("a", closed=Instant(now.wall + 900, now.boot - 20, "this"))
    second = scope("b", closed=Instant(now.wall - 900, now.boot - 10, "this"))
    assert survivors(KeepLast(1), [first, second]) == "b"


@pytest.mark.parametrize("boot_id", ["another", ""])
def test_across_boots_wall_time_orders(scope, survivors, now, boot_id):
    """A scope of another boot is placed by wall time, before or after those of this one."""
    here = scope("a", closed=Instant(now.wall - 50, now.boot - 50, "this"))
    older = scope("b", closed=Instant(now.wall - 60, now.boot + 99, boot_id))
    newer = scope("b", closed=Instant(now.wall - 40, 0.0, boot_id))
    assert survivors(KeepLast(1), [older, here]) == "a"
    assert survivors(KeepLast(1), [here, newer]) == "b"


def test_without_a_known_boot_wall_time_orders(scope, survivors, now):
    """Where nobody knows the present boot, wall time alone orders."""
    nowhere = attrs.evolve(now, boot_id="")
    older = scope("a", closed=Instant(now.wall - 2, 5.0, ""))
    newer = scope("b", closed=Instant(now.wall - 1, 4.0, ""))
    assert survivors(KeepLast(1), [older, newer], nowhere) == "b"


def test_a_scope_that_was_never_closed_is_placed_by_its_opening(scope, survivors, now):
    """A scope that was never closed counts from its opening."""
    never = scope("a", closed=None, opened=Instant(now.wall - 5, now.boot - 5, "this"), kind="never_closed")
    assert survivors(KeepLast(1), [never, scope("b", 1)]) == "a"


def test_a_scope_told_twice_takes_one_place(scope, survivors):
    """A scope that a storage tells twice is counted once, and both tellings get one verdict."""
    assert survivors(KeepLast(2), [scope("a", 1), scope("b", 2), scope("a", 1), scope("c", 3)]) == "aba"


def test_a_time_that_was_written_down_is_obeyed(scope, survivors):
    """A scope whose own recorded time has passed goes and takes no place."""
    expired = scope("a", 2, verdict=Verdict(keep=True, for_seconds=3_600))
    assert survivors(KeepLast(1), [expired, scope("b", 3)]) == "b"


def test_it_is_a_value():
    """It equals and is shown by its arguments."""
    assert KeepLast(2) == KeepLast(2, per="label") != KeepLast(2, per="name")
    assert repr(KeepLast(2)) == "KeepLast(n=2, per='label')"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, r"^n cannot be 0: .*at least 1"),
        ({"n": True}, r"^n cannot be True: .*whole number"),
        ({"n": "3"}, r"^n cannot be '3': .*whole number"),
        ({"n": 2.0}, r"^n cannot be 2.0: .*whole number"),
        ({"n": 1, "per": "lable"}, r"^per cannot be 'lable': .*'label', 'name' or 'application'"),
        ({"n": 1, "per": None}, r"^per cannot be None: .*'label'"),
        ({"n": 1, "per": ["label"]}, r"^per cannot be \['label'\]: "),
    ],
)
def test_bad_arguments_are_named_with_what_is_allowed(arguments, message):
    """A bad argument raises an error that names the argument, the value and what is allowed."""
    with pytest.raises(ConfigurationError, match=message):
        KeepLast(**arguments)
