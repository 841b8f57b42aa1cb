"""
Handing an open scope to another process: once, whole, and for a stated time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tempscope import (
    HandOverError,
    KeepAll,
    LocalDiskStorage,
    MemoryStorage,
    ScopeBusyError,
    ScopeClosedError,
    StagedSourceChangedError,
    TempFileManager,
    TempScopes,
    UnsupportedError,
    sweep,
)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[LocalDiskStorage]:
    """A storage of this process."""
    with LocalDiskStorage(tmp_path / "base") as storage:
        yield storage


@pytest.fixture
def scopes(storage: LocalDiskStorage) -> TempScopes:
    """What opens scopes on it."""
    return TempScopes(storage, label="hand-over")


def handed_over(scopes: TempScopes, name: str = "job", *, ttl: str = "1h") -> str:
    """Open a scope with a file and a directory in it, and hand it over."""
    manager = scopes.open(name)
    manager.new_file(name="a.txt").write_text("content")
    (manager.new_dir(name="d") / "b.txt").write_text("below")
    return manager.detach(ttl=ttl)


def run(tmp_path: Path, program: str, *arguments: str) -> str:
    """Run *program* in a process of its own, with storage and scopes on the same base; return what it said."""
    prelude = "import os, sys\nfrom tempscope import *\nscopes = TempScopes(LocalDiskStorage(sys.argv[1]))\n"
    done = subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(program), str(tmp_path / "base"), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_another_process_finds_the_files_and_closes_the_scope(tmp_path: Path, scopes: TempScopes) -> None:
    """After attach the files stand under the new manager's directory, and go when that closes."""
    token = handed_over(scopes)

    said = run(
        tmp_path,
        """
        with scopes.attach(sys.argv[2]) as manager:
            print(manager.name, (manager.directory / "a.txt").read_text(), sorted(os.listdir(manager.directory)))
            manager.new_file()
        """,
        token,
    )

    assert said == "job content ['a.txt', 'd']"
    assert not list((tmp_path / "base").rglob("*.txt"))


def test_a_process_that_hands_over_may_end(tmp_path: Path, scopes: TempScopes) -> None:
    """The waiting scope does not depend on the process that made it, nor does a sweep take it."""
    token = run(tmp_path, "m = scopes.open('job'); m.new_file(name='a.txt').write_text('x'); print(m.detach())")
    sweep(tmp_path / "base")

    with scopes.attach(token) as manager:
        assert (manager.directory / "a.txt").read_text() == "x"


def test_the_manager_is_closed_without_asking_the_policy(scopes: TempScopes) -> None:
    """detach closes the manager; a policy that keeps all does not keep this."""
    manager = scopes.open("job", policy=KeepAll())
    old = manager.new_file(name="a.txt")
    token = manager.detach()

    assert manager.closed
    assert not old.exists()
    with pytest.raises(ScopeClosedError):
        manager.new_file()
    manager.close()
    with scopes.attach(token) as again:
        assert (again.directory / "a.txt").exists()


def test_an_entered_scope_can_be_handed_over_inside_its_with(scopes: TempScopes) -> None:
    """The end of the with finds the scope closed and leaves the waiting files alone."""
    with scopes.open("job") as manager:
        manager.new_file(name="a.txt")
        token = manager.detach()

    with scopes.attach(token) as again:
        assert (again.directory / "a.txt").exists()


def test_a_token_opens_once(scopes: TempScopes) -> None:
    """A token used twice is a clear error, and the first user's scope is not disturbed."""
    token = handed_over(scopes)
    with scopes.attach(token) as manager:
        with pytest.raises(HandOverError, match="used before"):
            scopes.attach(token)
        assert (manager.directory / "a.txt").exists()


def test_of_racing_takers_one_gets_it(scopes: TempScopes) -> None:
    """Any number of threads attach one token at once: one gets the scope, the others the error."""
    for _ in range(30):
        token = handed_over(scopes)
        start, got, failed = threading.Barrier(4), list[TempFileManager](), list[Exception]()

        def take(token: str = token) -> None:
            start.wait()
            try:
                got.append(scopes.attach(token))
            except HandOverError as error:
                failed.append(error)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(failed)) == (1, 3)
        got[0].close()


@pytest.mark.parametrize("token", ["", "../../etc", "a" * 26, "A" * 26, "i-" + "a" * 24, "x\0y"])
def test_a_forged_token_opens_nothing(scopes: TempScopes, token: str) -> None:
    """What was never given out, whatever it looks like, is a clear error."""
    scopes.open().new_file()
    with pytest.raises(HandOverError):
        scopes.attach(token)


def test_an_expired_token_is_refused_and_swept(tmp_path: Path, scopes: TempScopes) -> None:
    """A scope that nobody took in its time is not handed out any more, and the next sweep removes it."""
    token = handed_over(scopes, ttl="1ms")
    fresh = handed_over(scopes, "fresh")
    threading.Event().wait(0.01)

    with pytest.raises(HandOverError, match="has passed"):
        scopes.attach(token)
    report = sweep(tmp_path / "base")

    assert report.removed == 1
    assert [path.name for path in (tmp_path / "base").glob("*/d-*")] == [f"d-{fresh}"]


def test_busy_scopes_are_not_handed_over(scopes: TempScopes) -> None:
    """detach raises, changing nothing, while children, per-file blocks or callbacks are open."""
    ran: list[str] = []
    with scopes.open("job") as manager:
        kept = manager.new_file()
        with manager.scope("child"), pytest.raises(ScopeBusyError, match="children"):
            manager.detach()
        with manager.create_temp_file(), pytest.raises(ScopeBusyError, match="blocks"):
            manager.detach()
        manager.register_cleanup_callback(ran.append, "callback")
        with pytest.raises(ScopeBusyError, match="callbacks"):
            manager.detach()
        assert not manager.closed
        assert kept.exists()
    assert ran == ["callback"]


def test_registered_outside_paths_travel_along(tmp_path: Path, scopes: TempScopes) -> None:
    """What the scope was to delete outside goes when the scope closes in its new process, not before."""
    outside, replaced = tmp_path / "outside.bin", tmp_path / "replaced.bin"
    outside.write_text("1")
    replaced.write_text("2")
    manager = scopes.open("job")
    manager.register_file(outside)
    manager.register_file(replaced)
    token = manager.detach()
    replaced.rename(tmp_path / "other")
    replaced.write_text("somebody else's")
    assert outside.exists()

    run(tmp_path, "scopes.attach(sys.argv[2]).close()", token)

    assert not outside.exists()
    assert replaced.read_text() == "somebody else's"


def test_outside_paths_of_a_scope_that_nobody_took_are_swept(tmp_path: Path, scopes: TempScopes) -> None:
    """With an abandoned scope its registered paths go too."""
    outside = tmp_path / "outside.bin"
    outside.write_text("1")
    manager = scopes.open("job")
    manager.register_file(outside)
    manager.detach(ttl="1ms")
    threading.Event().wait(0.01)

    sweep(tmp_path / "base")

    assert not outside.exists()


def test_an_input_that_was_written_to_stops_the_hand_over(tmp_path: Path, scopes: TempScopes) -> None:
    """A linked input is verified before the scope leaves; if it was changed the scope stays here, open."""
    from tempscope import HardlinkStorage

    source = tmp_path / "source"
    source.write_text("precious")
    with HardlinkStorage(tmp_path / "base") as storage, TempScopes(storage).open() as manager:
        staged = manager.stage(source)
        with open(staged.path, "a") as file:
            file.write("!")
        with pytest.raises(StagedSourceChangedError):
            manager.detach()
        assert not manager.closed
        staged.path.unlink()
        manager._staged.clear()


def test_a_scope_in_memory_cannot_be_handed_over() -> None:
    """Without a disk to move it to, memory says that it cannot."""
    with TempScopes(MemoryStorage()).open() as manager:
        manager.new_file()
        with pytest.raises(UnsupportedError, match="hand"):
            manager.detach()


@pytest.mark.parametrize("ttl", ["0s", "-1h", "soon", 60])
def test_a_time_to_wait_is_a_duration(scopes: TempScopes, ttl: object) -> None:
    """ttl says how long, with its unit; anything else is refused and changes nothing."""
    manager = scopes.open()
    manager.new_file()
    with pytest.raises(ValueError, match="ttl"):
        manager.detach(ttl=ttl)  # type: ignore[arg-type]
    assert not manager.closed
    manager.close()


def test_a_crash_before_the_scope_leaves_is_swept_whole(tmp_path: Path) -> None:
    """Killed at the rename that hands it over, the process leaves a dead instance; one sweep removes
    the scope and its outside path together."""
    outside = tmp_path / "outside.bin"
    outside.write_text("1")
    run(
        tmp_path,
        """
        import tempscope.storages._area_sharing as sharing
        manager = scopes.open("job")
        manager.new_file()
        manager.register_file(sys.argv[2])
        real = os.rename
        def die(*args, **options):
            if str(args[1]).startswith("d-"):
                os._exit(0)
            return real(*args, **options)
        os.rename = die
        manager.detach()
        """,
        str(outside),
    )

    sweep(tmp_path / "base")

    assert not outside.exists()
    assert not [name for name in os.listdir(next((tmp_path / "base").iterdir())) if name[:2] in ("i-", "d-", "t-")]
