"""
Two real programs, killed and failed at every system call they make between their markers.

After each fault the next start of the application sweeps once; then nothing of the program is left,
and the canaries are untouched: a living process's scope and a foreign file in the root, files
outside, and a file that took the place of a registered one.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from tests.integration.faults import injection
from tests.integration.faults.cases import Case, Holder, JobCase, SweepCase, make_world
from tests.integration.faults.fallbacks import excuse
from tests.integration.faults.injection import MODES, Mode, Point, Run
from tests.integration.faults.world import World


_WORKERS = 2
_BOUNDED = 4
_TRIES = 3
# In every bounded selection: where ownership changes hands, and where the first byte is written.
_ALWAYS = ("flock", "mkdirat", "renameat", "unlinkat", "write")
_WORDS = ("raised", "warned", "counted", "noted", "lost")


@attrs.frozen
class Bench:
    """The worlds in which the faults happen, and the programs; lives for the whole file."""

    worlds: collections.deque[World]
    cases: dict[str, Case]
    found: dict[str, tuple[list[Point], Run]] = attrs.Factory(dict)

    def points(self, case: Case) -> tuple[list[Point], Run]:
        """Return the points of *case* and what it is told when nothing happens, by a dry run."""
        if case.name not in self.found:
            world = self.worlds[0]
            for _ in ("warm-up", "dry run"):
                case.prepare(world)
                self.found[case.name] = injection.points_of(case.program(world), world.log)
                assert aftermath(case, world, self.found[case.name][1]) == []
        return self.found[case.name]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A world for each worker, in all of which one other process holds a scope."""
    place = tmp_path_factory.mktemp("faults")
    reason = injection.probe(place)
    if reason is not None:
        pytest.skip(reason)
    holder = Holder()
    worlds = collections.deque(make_world(place / str(number), holder) for number in range(_WORKERS))
    yield Bench(worlds, {"job": JobCase(), "sweep": SweepCase.made(place / "template")})
    assert holder.ask("") == "well", "the living process cannot use its scopes any more"
    assert holder.end() == 0


def aftermath(case: Case, world: World, run: Run) -> list[str]:
    """Sweep once, and return what is wrong then."""
    return [*world.sweep(), *world.left(), *world.harm(), *case.owed(world, run)]


def chosen(points: list[Point], mode: Mode, full: bool) -> list[Point]:
    """Choose the points to strike: all, or some, others in each mode."""
    if full:
        return points
    first = [next((point for point in points if point.call == call), None) for call in _ALWAYS]
    step = max(1, len(points) // _BOUNDED)
    spread = points[MODES.index(mode) * 7 % step :: step]
    return list(dict.fromkeys([*(point for point in first if point is not None), *spread]))


def news(run: Run, usual: Run) -> collections.Counter[str]:
    """Return how many different things the program was told, by each word, beyond what it always is."""
    told, always = run.told or {}, usual.told or {}
    return collections.Counter(
        {
            word: len(collections.Counter(told.get(word, [])) - collections.Counter(always[word]))
            for word in _WORDS
        }
    )


def reported(point: Point, mode: Mode, run: Run, usual: Run) -> list[str]:
    """Return what is wrong with how the program was told of the fault."""
    if mode.kills:
        return []
    if run.told is None:
        return [f"it told nothing: {run.stderr[-400:]}"]
    if mode.is_signal:
        raised = "".join([*run.told["raised"], *run.told["lost"]])
        return [] if "KeyboardInterrupt" in raised else [f"the interrupt got lost: {run.told}"]
    new = news(run, usual)
    # What is left behind is warned of and stands in the report: that is one telling.
    times = new["raised"] + new["noted"] + max(new["warned"], new["counted"])
    if times == 0 and excuse(point.call, run, mode) is None:
        return ["it was not reported"]
    if new["lost"] or (times > 1 and not mode.persistent):
        return [f"it was reported {times} times: {run.told}"]
    return []


def strike(bench: Bench, case: Case, point: Point, mode: Mode) -> tuple[bool, list[str]]:
    """Let *mode* happen at *point*; return whether it did, and what was wrong afterwards."""
    world = bench.worlds.popleft()
    try:
        run = struck(case, world, point, mode)
        faults = ["it did not end by itself"] if run.timed_out else []
        faults += reported(point, mode, run, bench.found[case.name][1]) if run.fired else []
        faults += aftermath(case, world, run)
    finally:
        bench.worlds.append(world)
    return run.fired, [
        f"{mode} at {point.call} #{point.ordinal} ({run.struck[:160]}: {fault}" for fault in faults
    ]


def struck(case: Case, world: World, point: Point, mode: Mode) -> Run:
    """Run *case* until *mode* happened: a mount that comes or goes on this machine moves a few points."""
    for _ in range(_TRIES):
        case.prepare(world)
        run = injection.inject(case.program(world), point, mode, world.log)
        if run.fired:
            break
        assert aftermath(case, world, run) == []
    return run


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["job", "sweep"])
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_fault_at_every_call(
    mode: Mode, name: str, bench: Bench, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    One sweep after a fault at any system call nothing is left, and nothing foreign is harmed.

    The fault itself is reported once, or answered by a documented fallback.

    Rows 1, 2, 3, 4, 12, 13, 14, 16, 17, 19, 38.
    P3, P4.
    """
    case = bench.cases[name]
    points, _ = bench.points(case)
    assert points, "the program did not get as far as its first call"
    planned = chosen(points, mode, full)
    with ThreadPoolExecutor(_WORKERS) as workers:
        results = list(workers.map(lambda point: strike(bench, case, point, mode), planned))
    fired = sum(struck for struck, _ in results)
    with capsys.disabled():
        print(f"\nfaults, {name}, {mode}: {fired}/{len(planned)} fired, of {len(points)} calls")
    faults = [fault for _, found in results for fault in found]
    assert not faults, "\n".join(faults)
    assert fired == len(planned)
