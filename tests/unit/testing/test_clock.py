"""The clock that a test sets."""

from __future__ import annotations

import pytest

from tempscope import Instant, ScopeRecord
from tempscope.policies import ExpireAfter
from tempscope.protocols import Clock
from tempscope.testing import FakeClock


def test_it_is_a_clock() -> None:
    """A fake clock is a Clock, and stands still by itself."""
    clock = FakeClock()
    assert isinstance(clock, Clock)
    assert clock.now() == clock.now() == Instant(1_700_000_000.0, 10_000.0, "boot-1")


def test_advance_moves_both() -> None:
    """What passes, passes on both clocks."""
    clock = FakeClock(100.0, 10.0, "here")
    assert clock.advance(2.5) == clock.now() == Instant(102.5, 12.5, "here")


def test_the_clocks_move_separately() -> None:
    """The wall clock can be set, forward and back, and can miss time; boot time only passes."""
    clock = FakeClock(100.0, 10.0)
    assert clock.step_wall(50.0) == Instant(150.0, 10.0, "boot-1")
    assert clock.step_wall(-100.0) == Instant(50.0, 10.0, "boot-1")
    assert clock.step_boot(5.0) == Instant(50.0, 15.0, "boot-1")


def test_boot_time_never_goes_back() -> None:
    """Turning boot time back is refused, with the number, and changes nothing."""
    clock = FakeClock(100.0, 10.0)
    for turn_back in (clock.advance, clock.step_boot):
        with pytest.raises(ValueError, match=r"boot time cannot go back, and -1\.0 is less than 0"):
            turn_back(-1.0)
    assert clock.now() == Instant(100.0, 10.0, "boot-1")


def test_reboot() -> None:
    """A restart begins boot time anew, under another name; where boots have no names it stays so."""
    clock = FakeClock(100.0, 10.0)
    assert clock.reboot(30.0) == Instant(130.0, 0.0, "boot-2")
    assert clock.reboot() == Instant(130.0, 0.0, "boot-3")
    assert FakeClock(100.0, 10.0, boot_id="").reboot() == Instant(100.0, 0.0, "")


def test_a_policy_believes_it() -> None:
    """A policy that is told the fake present decides by it."""
    clock, policy = FakeClock(), ExpireAfter("1h")
    record = ScopeRecord(token="a", opened=clock.now(), closed=clock.now(), state="retained")
    clock.step_wall(10_000.0)
    assert policy.select([record], clock.now())[0].keep
    clock.step_boot(3_600.0)
    assert not policy.select([record], clock.now())[0].keep


def test_it_shows_the_time() -> None:
    """Its repr is the call that makes it so."""
    clock = FakeClock()
    clock.advance(1.0)
    assert repr(clock) == "FakeClock(wall=1700000001.0, boot=10001.0, boot_id='boot-1')"
