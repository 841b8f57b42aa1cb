"""
Handing an open scope to another process: once, whole, and for a stated time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tempscope import (
    ConfigurationError,
    HandOverError,
    HardlinkStorage,
    KeepAll,
    KeepOnFailure,
    LocalDiskStorage,
    MemoryStorage,
    ScopeBusyError,
    ScopeClosedError,
    StagedSourceChangedError,
    TempFileManager,
    TempScopes,
    UnsupportedError,
    _sharing,
    sweep,
)
from tempscope._clock import SystemClock
from tempscope.janitor import Sweep
from tempscope.storages import new_token
from tempscope.storages._area import LocalArea
from tempscope.testing import FakeClock


ROOT = f"tempscope-{os.geteuid()}"


def later(seconds: float) -> FakeClock:
    """Return a clock that is so many seconds ahead."""
    now = SystemClock().now()
    return FakeClock(now.wall + seconds, now.boot + seconds, now.boot_id)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The base directory of all processes."""
    return tmp_path / "base"


@pytest.fixture(params=["disk", "memory"])
def storage(request: pytest.FixtureRequest, base: Path) -> Iterator[Any]:
    """A storage of this process: on disk, or in memory with a disk to spill to."""
    with LocalDiskStorage(base) as disk:
        if request.param == "disk":
            yield disk
        else:
            with MemoryStorage(spill_to=disk) as memory:
                yield memory


@pytest.fixture
def scopes(storage: Any) -> TempScopes:
    """What opens scopes on it."""
    return TempScopes(storage, label="hand-over")


@pytest.fixture
def on_disk(base: Path) -> Iterator[TempScopes]:
    """What opens scopes on the disk."""
    with LocalDiskStorage(base) as disk:
        yield TempScopes(disk)


def handed_over(scopes: TempScopes, name: str = "job", *, ttl: str = "1h") -> str:
    """Open a scope with a file and a directory in it, and hand it over."""
    manager = scopes.open(name)
    manager.new_file(name="a.txt").write_text("content")
    (manager.new_dir(name="d") / "b.txt").write_text("below")
    return manager.detach(ttl=ttl)


def under_root(base: Path, *prefixes: str) -> list[str]:
    """Return what is under the root whose name begins so."""
    return sorted(path.name for path in (base / ROOT).iterdir() if path.name.startswith(prefixes))


def run(base: Path, program: str, *arguments: str) -> str:
    """Run *program* in a process of its own, with scopes on the same base; return what it said."""
    prelude = """
        import json, os, signal, sys
        from tempscope import *
        scopes = TempScopes(HardlinkStorage(sys.argv[1], application="another"))
    """
    text = textwrap.dedent(prelude) + textwrap.dedent(program)
    command = [sys.executable, "-c", text, str(base), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode in (0, -9), done
    return done.stdout.strip()


def test_another_process_finds_the_files_and_closes_the_scope(base: Path, scopes: TempScopes) -> None:
    """After attach the files stand under the new manager's directory, and go when that closes."""
    token = handed_over(scopes)

    said = run(
        base,
        """
        with scopes.attach(sys.argv[2]) as manager:
            directory = manager.directory
            assert current_scope() is manager
            print(manager.name, (directory / "a.txt").read_text(), (directory / "d/b.txt").read_text())
            print(*sorted(os.listdir(directory)), scopes.active()[0].label, scopes.active()[0].application)
            assert manager.new_file(name="c").parent == directory
        """,
        token,
    )

    assert said.split() == ["job", "content", "below", "a.txt", "d", "hand-over", "another"]
    assert not list(base.rglob("*.txt"))
    assert under_root(base, "d-", "k-", "t-") == []


def test_a_process_that_hands_over_may_end(base: Path, scopes: TempScopes) -> None:
    """The waiting scope does not depend on the process that made it, nor does a sweep take it."""
    token = run(
        base,
        """
        manager = scopes.open("job")
        manager.new_file(name="a.txt").write_text("x")
        print(manager.detach(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    report = sweep(base)

    assert [entry.reason for entry in report.entries if entry.kind == "kept"] == ["it waits to be taken over"]
    with scopes.attach(token) as manager:
        assert (manager.directory / "a.txt").read_text() == "x"
    assert under_root(base, "d-") == []


@pytest.mark.parametrize("existed", [True, False])
def test_a_source_that_was_registered_too_stays(
    base: Path, on_disk: TempScopes, tmp_path: Path, existed: bool
) -> None:
    """A staged source survives a hand-over, the next owner's close and a sweep, though it is registered."""
    source = tmp_path / "source"
    if existed:
        source.write_text("theirs")
    manager = on_disk.open("job")
    manager.register_file(source)
    source.write_text("theirs")
    manager.stage(source, writable=True)
    on_disk.attach(manager.detach()).close()
    on_disk.storage.close()  # type: ignore[attr-defined]
    sweep(base)

    assert source.read_text() == "theirs"


def test_the_manager_is_closed_without_asking_the_policy(base: Path, scopes: TempScopes) -> None:
    """Handing over closes the manager, whose paths are void; a policy that keeps all does not keep this."""
    manager = scopes.open("job", policy=KeepAll())
    old = manager.new_file(name="a.txt")
    token = manager.detach()

    assert manager.closed
    assert manager.outcome is not None
    assert manager.outcome.kind == "ok"
    assert manager.report is not None
    assert (manager.report.kept, manager.report.removed, manager.report.verdict) == (0, 0, None)
    assert not old.exists()
    for use in (manager.new_file, manager.detach, manager.popen_kwargs, lambda: manager.directory):
        with pytest.raises(ScopeClosedError):
            use()
    assert manager.close() is manager.report
    assert under_root(base, "k-") == []
    with scopes.attach(token) as again:
        assert (again.directory / "a.txt").exists()


def test_an_entered_scope_can_be_handed_over_inside_its_with(scopes: TempScopes) -> None:
    """The end of the with finds the scope closed and leaves the waiting files alone, however it is left."""
    with pytest.raises(RuntimeError, match="afterwards"), scopes.open("job") as manager:
        manager.new_file(name="a.txt")
        token = manager.detach()
        raise RuntimeError("afterwards")

    with scopes.attach(token) as again:
        assert (again.directory / "a.txt").exists()


def test_a_child_can_be_handed_over_and_outlives_its_parent(scopes: TempScopes) -> None:
    """A child that was detached is none any more: its parent can be handed over too, or closed."""
    with scopes.open("parent") as parent:
        child = parent.scope("child")
        child.new_file(name="a.txt")
        token = child.detach()
        whole = parent.detach()
    with scopes.attach(whole), scopes.attach(token) as again:
        assert (again.name, os.listdir(again.directory)) == ("child", ["a.txt"])


def test_a_scope_can_be_handed_on_and_on(scopes: TempScopes) -> None:
    """Each hand-over has a token of its own, and the ones before stay used."""
    tokens = [handed_over(scopes)]
    for number in range(3):
        manager = scopes.attach(tokens[-1])
        manager.new_file(name=f"{number}.txt")
        tokens.append(manager.detach())
    for used in tokens[:-1]:
        with pytest.raises(HandOverError, match="used before"):
            scopes.attach(used)
    with scopes.attach(tokens[-1]) as manager:
        assert sorted(os.listdir(manager.directory)) == ["0.txt", "1.txt", "2.txt", "a.txt", "d"]


def test_unique_names_do_not_meet_those_of_before(on_disk: TempScopes) -> None:
    """However many files a scope had when it was handed over, its next ones find free names at once."""
    manager = on_disk.open()
    for _ in range(1_100):
        manager.new_file()
    with on_disk.attach(manager.detach()) as again:
        again.new_file()
        assert again.usage().files == 1_101


def test_of_racing_takers_one_gets_it(scopes: TempScopes) -> None:
    """Sixteen threads attach one token at once: one gets the scope, the others the error."""
    for _ in range(20):
        token = handed_over(scopes)
        start, got, failed = threading.Barrier(16), list[TempFileManager](), list[Exception]()

        def take(
            token: str = token,
            start: threading.Barrier = start,
            got: list[TempFileManager] = got,
            failed: list[Exception] = failed,
        ) -> None:
            start.wait()
            try:
                got.append(scopes.attach(token))
            except HandOverError as error:
                failed.append(error)

        threads = [threading.Thread(target=take) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(failed)) == (1, 15)
        assert (got[0].directory / "d" / "b.txt").read_text() == "below"
        got[0].close()


def test_of_racing_processes_one_gets_it(base: Path, on_disk: TempScopes) -> None:
    """Processes attach the same tokens at once: each scope is taken once, whole, and nothing is lost."""
    tokens = [handed_over(on_disk, str(number)) for number in range(40)]
    program = """
        taken = []
        sys.stdin.read(1)
        for token in json.loads(sys.argv[2]):
            try:
                with scopes.attach(token) as manager:
                    assert sorted(os.listdir(manager.directory)) == ["a.txt", "d"]
                    taken.append(manager.name)
            except HandOverError:
                pass
        print(json.dumps(taken))
    """
    prelude = "import json, os, sys\nfrom tempscope import *\n"
    prelude += "scopes = TempScopes(LocalDiskStorage(sys.argv[1]))\nscopes.open().close()\n"
    command = [sys.executable, "-c", prelude + textwrap.dedent(program), str(base), json.dumps(tokens)]
    takers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for taker in takers:
        assert taker.stdin is not None
        taker.stdin.write("\n")
        taker.stdin.flush()
    said = [json.loads(taker.communicate(timeout=60)[0]) for taker in takers]

    assert sorted(name for each in said for name in each) == sorted(map(str, range(40)))
    assert under_root(base, "d-") == []


@pytest.mark.parametrize(
    "token", ["", "../../etc", "a" * 25, "A" * 26, "i-" + "a" * 24, "x\0y", "a" * 26 + "\n", b"a" * 26, None]
)
def test_a_malformed_token_opens_nothing(base: Path, scopes: TempScopes, token: Any) -> None:
    """What cannot be a token is a clear error that says what one looks like; nothing is touched for it."""
    with pytest.raises(HandOverError, match="26 characters"):
        scopes.attach(token)
    assert not base.exists()
    assert scopes.active() == []


def test_a_forged_token_opens_nothing(base: Path, scopes: TempScopes) -> None:
    """A token that was never given out is a clear error, even if something else of ours has that name."""
    with scopes.open() as other:
        Path(str(other.new_file()))
    forged, root = new_token(), base / ROOT
    with pytest.raises(HandOverError, match="never given out"):
        scopes.attach(forged)
    (root / f"d-{forged}").symlink_to(base)
    with pytest.raises(HandOverError, match="never given out"):
        scopes.attach(forged)
    kept = run(
        base,
        "m = scopes.open(policy=KeepAll()); m.new_file(); print(m.close().directory.name[2:])",
    )
    with pytest.raises(HandOverError):
        scopes.attach(kept)
    assert (root / f"k-{kept}").is_dir()


@pytest.mark.parametrize("record", [None, b"", b"{}", b"x" * 200_000, "another token"])
def test_a_directory_without_a_record_is_not_taken(base: Path, on_disk: TempScopes, record: Any) -> None:
    """What waits without a record of ours is left for people to look at."""
    token = handed_over(on_disk)
    file = base / ROOT / f"d-{token}" / ".tempscope-record"
    if record is None:
        file.unlink()
    elif isinstance(record, bytes):
        file.write_bytes(record)
    else:
        file.write_text(json.dumps(json.loads(file.read_text()) | {"token": "../../x"}))
    with pytest.raises(HandOverError, match="cannot be read"):
        on_disk.attach(token)
    assert (file.parent / "a.txt").exists()


def test_an_expired_token_is_refused_and_swept(base: Path, on_disk: TempScopes) -> None:
    """A scope that nobody took in its time is not handed out any more, and the next sweep removes it."""
    token = handed_over(on_disk, ttl="0.001ms")
    fresh = handed_over(on_disk, "fresh")

    with pytest.raises(HandOverError, match="has passed"):
        on_disk.attach(token)
    assert under_root(base, "d-") == sorted([f"d-{token}", f"d-{fresh}"])
    report = sweep(base)

    assert report.removed == 1
    assert under_root(base, "d-") == [f"d-{fresh}"]
    with pytest.raises(HandOverError, match="used before"):
        on_disk.attach(token)
    on_disk.attach(fresh).close()


def test_how_long_it_waits(base: Path, on_disk: TempScopes) -> None:
    """An abandoned scope is swept after its time, not before."""
    manager = on_disk.open()
    manager.new_file()
    manager.detach(ttl=timedelta(hours=2))
    assert Sweep(LocalDiskStorage(base), clock=later(7_100)).run().removed == 0
    assert len(under_root(base, "d-")) == 1
    assert Sweep(LocalDiskStorage(base), clock=later(7_300)).run().removed == 1
    assert under_root(base, "d-") == []


def test_an_abandoned_scope_goes_the_way_its_policy_wants(base: Path) -> None:
    """Nobody took it: that is a scope that was never closed, and a policy may keep those."""
    storage = LocalDiskStorage(base, application="app")
    manager = TempScopes(storage, KeepOnFailure()).open("evidence")
    manager.new_file(name="a.txt")
    manager.detach(ttl="0.001ms")
    sweep(storage)
    (kept,) = under_root(base, "k-", "d-")
    assert kept.startswith("k-")
    assert (base / ROOT / kept / "a.txt").exists()


def test_a_sweep_and_a_taker_meet(base: Path, on_disk: TempScopes, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a sweep removes what waited nobody gets it; while somebody takes it no sweep removes it."""
    from tempscope.storages import _area_sharing, _lock

    token = handed_over(on_disk)
    with open_directory(base / ROOT / f"d-{token}") as fd:
        assert _lock.seize(fd) == "held"
        with pytest.raises(HandOverError, match="a sweep is removing"):
            on_disk.attach(token)
    real, reports = os.rename, []

    def sweep_first(*args: Any, **options: Any) -> None:
        if str(args[0]).startswith("d-"):
            reports.append(Sweep(LocalDiskStorage(base), clock=later(7_200)).run())
        real(*args, **options)

    monkeypatch.setattr(_area_sharing.os, "rename", sweep_first)
    manager = on_disk.attach(token)
    monkeypatch.undo()
    assert [entry.reason for entry in reports[0].entries if entry.kind == "skipped"] == ["somebody holds it"]
    assert (manager.directory / "a.txt").read_text() == "content"
    manager.close()


class open_directory:  # noqa: N801  # reads as a function
    """A directory, open for one with."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def test_a_thread_that_still_works_loses_nothing(on_disk: TempScopes) -> None:
    """Every file that another thread was given before the hand-over travels along; later it gets none."""
    manager = on_disk.open()
    made, begun = list[str](), threading.Event()

    def work() -> None:
        try:
            while True:
                made.append(manager.new_file().name)
                begun.set()
        except ScopeClosedError:
            return

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    token = manager.detach()
    thread.join()
    with on_disk.attach(token) as again:
        assert sorted(os.listdir(again.directory)) == sorted(made)


def test_an_interrupt_when_all_was_done(
    base: Path, on_disk: TempScopes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was handed over waits though nobody has its token; what was taken over ends as cancelled."""

    def then_interrupted(real: Any) -> Any:
        def call(*args: Any) -> None:
            real(*args)
            raise KeyboardInterrupt

        return call

    manager = on_disk.open()
    manager.new_file()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(LocalArea, "hand_over", then_interrupted(LocalArea.hand_over))
        manager.detach()
    assert manager.closed
    (waiting,) = under_root(base, "d-")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(_sharing, "take_up", then_interrupted(_sharing.take_up))
        on_disk.attach(waiting[2:])
    assert under_root(base, "d-") == []
    assert not list((base / ROOT).glob("i-*/a*"))
    assert on_disk.active() == []


def test_busy_scopes_are_not_handed_over(scopes: TempScopes) -> None:
    """Handing over raises, changing nothing, while something in the scope is open."""
    ran: list[str] = []
    with scopes.open("job") as manager:
        kept = manager.new_file()
        with manager.scope("child"), pytest.raises(ScopeBusyError, match="children"):
            manager.detach()
        with manager.create_temp_file() as path:
            with pytest.raises(ScopeBusyError, match="blocks"):
                manager.detach()
            assert path.exists()
        manager.register_cleanup_callback(ran.append, "callback")
        with pytest.raises(ScopeBusyError, match="callbacks"):
            manager.detach()
        manager.cleanup_all()
        manager._push_exit(lambda exc: ran.append("object"))
        with pytest.raises(ScopeBusyError, match="objects"):
            manager.detach()
        assert not manager.closed
        assert not kept.exists()
        manager.new_file()
    assert ran == ["callback", "object"]


def test_a_closing_scope_is_not_handed_over(scopes: TempScopes) -> None:
    """What runs while the scope closes cannot hand it over any more."""
    raised: list[BaseException] = []

    def try_it() -> None:
        try:
            manager.detach()
        except ScopeClosedError as error:
            raised.append(error)

    with scopes.open("job") as manager:
        manager.register_cleanup_callback(try_it)
    assert "is closing" in str(raised[0])


def test_registered_outside_paths_travel_along(tmp_path: Path, base: Path, scopes: TempScopes) -> None:
    """What the scope was to delete outside goes when the scope closes in its new process, not before."""
    outside, replaced, taken_back, later = (
        tmp_path / name for name in ("outside", "replaced", "back", "later")
    )
    manager = scopes.open("job")
    for path in (outside, replaced, taken_back):
        path.write_text("1")
        manager.register_file(path)
    manager.register_file(later)
    token = manager.detach()
    replaced.rename(tmp_path / "other")
    replaced.write_text("somebody else's")
    later.write_text("made afterwards")
    sweep(base)
    assert outside.exists()

    run(
        base,
        """
        manager = scopes.attach(sys.argv[2])
        manager.unregister_file(sys.argv[3])
        assert sorted(os.listdir(manager.directory)) == [], os.listdir(manager.directory)
        report = manager.close()
        assert (report.removed, report.skipped) == (3, 1), report
        """,
        token,
        str(taken_back),
    )

    assert not outside.exists()
    assert not later.exists()
    assert taken_back.exists()
    assert replaced.read_text() == "somebody else's"


@pytest.mark.parametrize("state", ["waiting", "attached", "unregistered"])
def test_outside_paths_are_swept_with_their_scope(
    tmp_path: Path, base: Path, on_disk: TempScopes, state: str
) -> None:
    """A scope that nobody took, or whose taker was killed, takes its outside paths with it; only its own."""
    outside = tmp_path / "outside.bin"
    outside.write_text("1")
    manager = on_disk.open("job")
    manager.register_file(outside)
    token = manager.detach(ttl="1h" if state != "waiting" else "0.001ms")
    if state != "waiting":
        run(
            base,
            """
            manager = scopes.attach(sys.argv[2])
            if sys.argv[4] == "unregistered":
                manager.unregister_file(sys.argv[3])
            os.kill(os.getpid(), signal.SIGKILL)
            """,
            token,
            str(outside),
            state,
        )

    sweep(base)

    assert outside.exists() is (state == "unregistered")
    assert under_root(base, "d-", "t-") == []


def test_an_attached_scope_in_memory_journals_nothing(
    tmp_path: Path, base: Path, on_disk: TempScopes
) -> None:
    """A storage in memory could not take a path back, so what it takes over is told by no journal."""
    outside = tmp_path / "outside.bin"
    outside.write_text("1")
    manager = on_disk.open("job")
    manager.register_file(outside)
    token = manager.detach()
    with MemoryStorage(spill_to=LocalDiskStorage(base)) as memory:
        again = TempScopes(memory).attach(token)
        again.unregister_file(outside)
        assert str(outside) not in next((base / ROOT).glob("i-*/journal")).read_text().splitlines()[-1] or (
            '"gone"' in next((base / ROOT).glob("i-*/journal")).read_text().splitlines()[-1]
        )
        again.close()
    assert outside.exists()


def test_a_linked_input_is_verified_where_the_scope_closes(tmp_path: Path, base: Path) -> None:
    """What is known of a read-only input travels along: writing to it is found out by the new process."""
    source = tmp_path / "source"
    for change in (False, True):
        source.unlink(missing_ok=True)
        source.write_text("precious")
        with HardlinkStorage(base) as storage:
            manager = TempScopes(storage).open()
            staged = manager.stage(source)
            assert staged.method == "hardlink"
            token = manager.detach()
        said = run(
            base,
            """
            manager = scopes.attach(sys.argv[2])
            if sys.argv[3] == "True":
                with open(manager.directory / "source", "a") as file:
                    file.write("!")
            manager.register_file(sys.argv[4])
            try:
                manager.close()
            except StagedSourceChangedError as error:
                print(error.path == manager.directory / "source" if not manager.closed else error.changed)
            """,
            token,
            str(change),
            str(source),
        )
        assert said == ("('size', 'modification time')" if change else "")
        assert source.exists()


def test_an_unreadable_line_about_an_input_is_ignored(
    tmp_path: Path, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Hostile text about staged inputs is data: what cannot be one of ours is left out, and told."""
    source = tmp_path / "source"
    source.write_text("precious")
    with HardlinkStorage(base) as storage:
        manager = TempScopes(storage).open()
        manager.stage(source)
        token = manager.detach()
        file = base / ROOT / f"d-{token}" / ".tempscope-staged"
        good = json.loads(file.read_text())
        bad = [
            {"name": "../../etc/passwd"},
            {"name": 1},
            {"source": "relative"},
            {"linked": [1, 2]},
            {"linked": "no"},
            {"linked": [1, 2, 3, 4, True, ""]},
            {"linked": [1, 2, 3, 4, 5, 6]},
            {"linked": [1, 2, 3, 4, 5, "no digits"]},
        ]
        file.write_text(
            "".join(json.dumps(good | each) + "\n" for each in bad) + "not JSON\n" + json.dumps(good) + "\n"
        )
        again = TempScopes(storage).attach(token)
        assert len(caplog.messages) == 9
        assert again._staged is not None
        assert len(again._staged) == 1
        (again.directory / "source").write_text("x")
        with pytest.raises(StagedSourceChangedError):
            again.close()


def test_what_programs_left_under_our_names_counts_for_nothing(tmp_path: Path, on_disk: TempScopes) -> None:
    """A file that a job's program made under a reserved name is no list of paths to delete."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    manager = on_disk.open()
    line = json.dumps({"path": str(victim), "identity": None, "kind": "outside"}) + "\n"
    (manager.directory / ".tempscope-outside").write_text(line)
    (manager.directory / ".tempscope-staged").write_text(line)
    on_disk.attach(manager.detach()).close()
    assert victim.exists()


def test_a_scope_in_memory_cannot_be_handed_over() -> None:
    """Without a disk to move it to, memory says that it cannot, and how it could."""
    scopes = TempScopes(MemoryStorage())
    with scopes.open() as manager:
        path = manager.new_file()
        with pytest.raises(UnsupportedError, match="spill_to"):
            manager.detach()
        assert path.exists()
    with pytest.raises(UnsupportedError, match="spill_to"):
        scopes.attach("a" * 26)


def test_what_is_open_in_memory_goes_on_on_the_disk(base: Path) -> None:
    """A scope in memory moves to the disk when it is handed over; who has a file of it open goes on there."""
    with LocalDiskStorage(base) as disk, MemoryStorage(spill_to=disk) as memory:
        scopes = TempScopes(memory)
        manager = scopes.open()
        path = manager.new_file(name="log")
        with path.open("w") as file:
            file.write("before, ")
            token = manager.detach()
            file.write("after")
        assert not path.exists()
        with scopes.attach(token) as again:
            assert (again.directory / "log").read_text() == "before, after"
            assert again.usage().files == 1
            assert again.stage(base / ROOT / ".tempscope-root", name="in").path.exists()
            assert again.publish(again.directory / "log", base / "out").read_text() == "before, after"
        assert [path.name for path in base.rglob("log")] == []


def test_closing_the_storage_closes_what_was_attached(base: Path, scopes: TempScopes, storage: Any) -> None:
    """An attached scope is the storage's like any other; a closed storage takes nothing over."""
    token, other = handed_over(scopes), handed_over(scopes)
    manager = scopes.attach(token)
    directory = Path(str(manager.directory))
    storage.close()
    assert not directory.exists()
    with pytest.raises(ScopeClosedError):
        scopes.attach(other)
    assert under_root(base, "d-") == [f"d-{other}"]
    manager.close()


@pytest.mark.parametrize("ttl", ["0s", "-1h", "soon", 60, None])
def test_a_time_to_wait_is_a_duration(scopes: TempScopes, ttl: Any) -> None:
    """The ttl says how long, with its unit; anything else is refused and changes nothing."""
    with scopes.open() as manager:
        path = manager.new_file()
        with pytest.raises(ConfigurationError, match="ttl"):
            manager.detach(ttl=ttl)
        assert path.exists()


def test_after_a_fork_nothing_is_handed_over(scopes: TempScopes) -> None:
    """A child process cannot hand its parent's scope over."""
    with scopes.open() as manager:
        manager.new_file()
        pid = os.fork()
        if pid == 0:
            try:
                manager.detach()
            except Exception as error:
                os._exit(7 if type(error).__name__ == "ForkedScopeError" else 1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert len(list(manager.directory.iterdir())) == 1


@pytest.mark.parametrize("which", ["out", "in"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_the_rename_leaves_one_truth(
    tmp_path: Path, base: Path, on_disk: TempScopes, which: str, moment: str
) -> None:
    """Killed at a rename, scope and outside path are found together: waiting, or swept by one sweep."""
    outside = tmp_path / "outside.bin"
    outside.write_text("1")
    program = """
        token, outside, which, moment = sys.argv[2:]
        real = os.rename
        def die(*args, **options):
            at = str(args[1 if which == "out" else 0]).startswith("d-")
            if at and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            real(*args, **options)
            if at:
                os.kill(os.getpid(), signal.SIGKILL)
        if which == "in":
            os.rename = die
            scopes.attach(token)
        manager = scopes.open("job")
        manager.new_file(name="a.txt")
        manager.register_file(outside)
        os.rename = die
        manager.detach()
    """
    token = "-"
    if which == "in":
        manager = on_disk.open("job")
        manager.new_file(name="a.txt")
        manager.register_file(outside)
        token = manager.detach()
    run(base, program, token, str(outside), which, moment)
    waits = (which, moment) in (("out", "after"), ("in", "before"))

    sweep(base)

    assert outside.exists() is waits
    assert len(under_root(base, "d-")) == int(waits)
    assert under_root(base, "t-") == []
    assert len(list(base.rglob("a.txt"))) == int(waits)
    if waits:
        on_disk.attach(under_root(base, "d-")[0][2:]).close()
    assert not outside.exists()


def test_a_linked_input_whose_source_went(base: Path, tmp_path: Path) -> None:
    """A scope that waits is taken over also when the source of a linked input is gone meanwhile."""
    source = tmp_path / "source"
    source.write_bytes(b"input")
    with HardlinkStorage(base) as storage:
        with TempScopes(storage).open("job") as manager:
            name = manager.stage(source).path.name
            token = manager.detach()
        source.unlink()
        with TempScopes(storage).attach(token) as manager:
            assert (manager.directory / name).read_bytes() == b"input"


def test_listeners_hear_of_a_scope_that_was_taken_over(base: Path) -> None:
    """What happens in an attached scope is told to the listeners of whoever attached it."""
    told: list[str] = []
    with LocalDiskStorage(base) as storage:
        with TempScopes(storage).open("job") as manager:
            manager.new_file()
            token = manager.detach()
        with TempScopes(storage, listeners=[lambda event: told.append(event.kind)]).attach(token) as manager:
            manager.new_file()
    assert told[:1] == ["created"] and "closed" in told
