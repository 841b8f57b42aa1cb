"""Looking over a root: what is told, what is left alone and why, and what is done about the rest."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from tempscope.errors import BaseDirectoryError, StorageFull
from tempscope.model import Instant, Outcome, Removal, ScopeRecord, Verdict
from tempscope.storages import _journal, _lock, _reclaim, _scan
from tempscope.storages._identity import identify
from tempscope.storages._openat2 import open_directory
from tempscope.storages._record_file import RECORD, read_record, write_record
from tempscope.storages._root import MARKER
from tempscope.storages._scan import DiskSweep, scan
from tempscope.storages.local import LocalDiskStorage

from .conftest import NOBODY, TOKENS, abandon, as_nobody, below, needs_root, record_of


DELETE = Verdict(False, "it is to go")
KEEP = Verdict(True, "it is to stay")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The base directory of the storage, with its root in it."""
    base = tmp_path / "disk"
    with LocalDiskStorage(base) as storage:
        storage.open_area(record_of()).create_file("file")
    return base


def files_in(storage: LocalDiskStorage, *names: str, **fields: Any) -> Path:
    """Make a scope with files of these names, and return its directory."""
    area = storage.open_area(record_of(**fields))
    for name in names:
        area.create_file(name).write_bytes(b"content")
    return area.directory


def told(sweep: DiskSweep) -> list[tuple[str, str]]:
    """Return state and last name of all that *sweep* tells."""
    return [(record.state, record.directory.name if record.directory else "") for record in sweep.records()]


def reasons(sweep: DiskSweep) -> dict[str, str]:
    """Return why each thing that *sweep* met is left alone."""
    return {os.path.basename(entry.path): entry.reason for entry in sweep.left}


def all_reclaimed(base: Path, verdict: Verdict = DELETE, **options: Any) -> list[Removal]:
    """Reclaim all that is under the root in *base*; return what became of each."""
    with DiskSweep(str(base), **options) as sweep:
        return [sweep.reclaim(record, verdict) for record in sweep.records()]


# -- looking


def test_a_missing_root_has_nothing(tmp_path: Path) -> None:
    """Under a root that is not there, nothing is told and nothing can be taken back."""
    with DiskSweep(str(tmp_path)) as sweep:
        assert told(sweep) == []
        assert sweep.reclaim(record_of(), DELETE) == Removal()
    assert below(tmp_path) == []


def test_a_root_that_cannot_be_listed(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a broken root is an error: one whose names the system does not give is one."""

    def broken(fd: int) -> list[str]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with DiskSweep(str(base)) as sweep, monkeypatch.context() as patch:
        patch.setattr(_scan.os, "listdir", broken)
        with pytest.raises(BaseDirectoryError, match="cannot be listed"):
            list(sweep.records())


def test_the_living_are_counted_and_not_read(
    storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A living process's instance is counted; its journal is not read."""
    files_in(storage, "file")
    monkeypatch.setattr(_scan, "read_journal", None)
    with storage.sweeping() as sweep:
        assert told(sweep) == []
        assert sweep.live == 1
        assert sweep.left == ()


def test_the_living_are_told_to_who_asks(storage: LocalDiskStorage) -> None:
    """Asked for all areas, a storage tells those of living processes, by whom they are held."""
    record = record_of("the job")
    storage.open_area(record).create_file("file")
    (found,) = storage.areas()
    assert (found.token, found.name, found.state) == (record.token, "the job", "live")
    assert found.owner is not None
    assert found.owner.pid == os.getpid()
    assert found.held_by is not None
    assert found.held_by.startswith(f"process {os.getpid()} (")
    assert found.directory is not None
    assert below(found.directory) == ["file"]


def test_the_dead_are_told_scope_by_scope(storage: LocalDiskStorage, base: Path) -> None:
    """A dead process's scopes are told by their journal, in order, and then its instance, as trash."""
    for number in range(11):
        files_in(storage, "file", name=f"job {number}")
    home = abandon(storage)
    with DiskSweep(str(base)) as sweep:
        records = list(sweep.records())
    assert [record.name for record in records] == [*(f"job {number}" for number in range(11)), None]
    assert {record.state for record in records[:-1]} == {"orphaned"}
    assert (records[-1].state, records[-1].directory) == ("trash", home)
    assert [record.state for record in scan(str(base))] == [record.state for record in records]


def test_a_scope_without_a_line(storage: LocalDiskStorage) -> None:
    """Row 14: a scope that a lost or damaged journal does not tell of is told as unknown."""
    home = files_in(storage, "file").parent
    (home / "a7").mkdir()
    (home / "a٣").mkdir()
    (home / "a").mkdir()
    abandon(storage)
    os.truncate(home / "journal", 3)
    with storage.sweeping() as sweep:
        assert told(sweep) == [("orphaned", "a1"), ("orphaned", "a7"), ("trash", home.name)]


def test_an_instance_that_cannot_be_read(
    storage: LocalDiskStorage, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 16: a dead instance whose names the system does not give is left alone, and told."""
    home = files_in(storage, "file").parent
    abandon(storage)
    with DiskSweep(str(base)) as sweep, monkeypatch.context() as patch:
        real, calls = os.listdir, []

        def broken(fd: int) -> list[str]:
            calls.append(fd)
            if len(calls) > 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(fd)

        patch.setattr(_scan.os, "listdir", broken)
        assert told(sweep) == []
        assert reasons(sweep) == {home.name: "its scopes cannot be listed: Input/output error"}
        (failure,) = [sweep.reclaim(record, DELETE) for record in [attrs.evolve(record_of(), directory=home)]]
        assert failure.failed == 1
        assert failure.entries[0].errno == errno.EIO
    assert below(home) == ["a1", "a1/file", "journal", "owner"]


def test_an_error_about_one_thing(
    storage: LocalDiskStorage, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 16: a directory of which the system says nothing is left alone and told; the sweep goes on."""
    root = files_in(storage, "file").parent.parent
    for token in TOKENS[:2]:
        (root / f"k-{token}").mkdir(mode=0o700)
    real, inode = os.fstat, (root / f"k-{TOKENS[0]}").stat().st_ino

    def broken(fd: int) -> os.stat_result:
        status = real(fd)
        if status.st_ino == inode:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return status

    with DiskSweep(str(base)) as sweep, monkeypatch.context() as patch:
        patch.setattr(_scan.os, "fstat", broken)
        assert told(sweep) == [("retained", f"k-{TOKENS[1]}")]
        assert reasons(sweep) == {f"k-{TOKENS[0]}": "it cannot be looked at: Input/output error"}


def test_locks_that_cannot_be_tried(
    storage: LocalDiskStorage, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: without a descriptor even for the root a sweep is refused with what is wrong."""
    files_in(storage, "file")

    def refused(root_fd: int, *, vouched: bool) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(_scan, "trust_in", refused)
    with pytest.raises(StorageFull, match=r"cannot be tried: .*ulimit -n"), DiskSweep(str(base)):
        pass


def test_a_living_instance_that_cannot_be_read(
    storage: LocalDiskStorage, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 16: the scopes of a living process that cannot be listed are just not told."""
    files_in(storage, "file")
    real, calls = os.listdir, []

    def broken(fd: int) -> list[str]:
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(_scan.os, "listdir", broken)
        assert list(storage.areas()) == []
    assert [record.state for record in storage.areas()] == ["live"]


@needs_root
def test_what_is_left_alone(base: Path, tmp_path: Path) -> None:
    """
    Row 91, trap: unknown names, links, FIFOs, sockets and other users' things are told and untouched.

    Trap 12: another program's files of the same shape.
    Trap 41: a match that ignores case deletes neighbours.
    """
    root = base / f"tempscope-{os.geteuid()}"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    strangers = {
        "notes": "it has no name of ours",
        "i-short": "it has no name of ours",
        f"x-{TOKENS[0]}": "it has no name of ours",
        f"I-{TOKENS[0]}": "it has no name of ours",
        f"t-{TOKENS[0].upper()}": "it has no name of ours",
        f"i-{TOKENS[1]}": "it is not a directory",
        f"t-{TOKENS[2]}": "it is not a directory",
        f"k-{TOKENS[3]}": "it is not a directory",
        f"i-{TOKENS[4]}": f"it belongs to user {NOBODY}",
        f"k-{TOKENS[5]}": f"it belongs to user {NOBODY}",
        "odd\nname": "it has no name of ours",
    }
    for name in strangers:
        (root / name).mkdir()
    for name in (f"i-{TOKENS[1]}", f"t-{TOKENS[2]}", f"k-{TOKENS[3]}"):
        (root / name).rmdir()
    (root / f"i-{TOKENS[1]}").symlink_to(outside)
    os.mkfifo(root / f"t-{TOKENS[2]}")
    with socket.socket(socket.AF_UNIX) as server:
        place = os.open(root, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{place}/k-{TOKENS[3]}")
        os.close(place)
    os.chown(root / f"i-{TOKENS[4]}", NOBODY, NOBODY)
    os.chown(root / f"k-{TOKENS[5]}", NOBODY, NOBODY)
    before = below(root)
    with DiskSweep(str(base)) as sweep:
        assert told(sweep) == []
        expected = {name.replace("\n", "\\n"): reason for name, reason in strangers.items()}
        assert reasons(sweep) == expected
        for name in strangers:
            record = attrs.evolve(record_of(), directory=root / name)
            removal = sweep.reclaim(record, DELETE)
            assert removal.skipped == 1, name
    assert below(root) == before
    assert below(outside) == ["precious"]


@needs_root
def test_what_cannot_be_opened(open_to_all: Path) -> None:
    """Row 19: a directory of ours that cannot be entered is told with the system's reason."""

    def attempt() -> dict[str, str]:
        with LocalDiskStorage(open_to_all) as storage:
            root = files_in(storage, "file").parent.parent
            (root / f"k-{TOKENS[0]}").mkdir(mode=0o000)
            with storage.sweeping() as sweep:
                assert told(sweep) == []
                record = attrs.evolve(record_of(), directory=root / f"k-{TOKENS[0]}")
                assert "Permission denied" in sweep.reclaim(record, DELETE).entries[0].reason
                (root / f"k-{TOKENS[0]}").rmdir()
                return reasons(sweep)

    assert as_nobody(attempt) == {f"k-{TOKENS[0]}": "it cannot be opened: Permission denied"}


@needs_root
@pytest.mark.parametrize("kind", ["i-", "k-", "t-"])
def test_a_mount_in_our_root(base: Path, tmp_path: Path, kind: str) -> None:
    """Row 52: a file system mounted over a name of ours, even the same one again, is not entered."""
    root, outside = base / f"tempscope-{os.geteuid()}", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    place = root / f"{kind}{TOKENS[0]}"
    place.mkdir()
    subprocess.run(["mount", "--bind", outside, place], check=True)
    try:
        with DiskSweep(str(base)) as sweep:
            for record in sweep.records():
                assert sweep.reclaim(record, DELETE).skipped == 1
            if kind == "i-":
                assert reasons(sweep) == {place.name: "a file system is mounted on it"}
        assert below(outside) == ["precious"]
    finally:
        subprocess.run(["umount", place], check=True)


def test_records_of_what_was_kept(storage: LocalDiskStorage, base: Path, root: Path) -> None:
    """Retained, handed-over, given-up and trashed things are told by their names, with their records."""
    area, record = storage.open_area(record_of("kept")), record_of("kept", verdict=KEEP)
    given_up = area.give_up(area.create_file("file")).parent
    area.retain(record)
    storage.close()
    shutil.copytree(root / f"k-{record.token}", root / f"d-{TOKENS[0]}")
    shutil.copytree(root / f"k-{record.token}", root / f"k-{TOKENS[1]}")
    (root / f"t-{TOKENS[2]}").mkdir()
    with DiskSweep(str(base)) as sweep:
        found = {record.directory.name: record for record in sweep.records() if record.directory}
    assert {name: record.state for name, record in found.items()} == {
        f"k-{record.token}": "retained",
        f"d-{TOKENS[0]}": "handed_over",
        f"k-{TOKENS[1]}": "retained",
        f"t-{TOKENS[2]}": "trash",
        given_up.name: "given_up",
    }
    assert found[f"k-{record.token}"].verdict == KEEP
    assert found[f"d-{TOKENS[0]}"].name == "kept"
    # Somebody copied it: its record is another scope's.
    assert found[f"k-{TOKENS[1]}"].verdict is None
    assert found[f"k-{TOKENS[1]}"].token == TOKENS[1]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"v":1}', b"x" * 100_000, b'{"v":2}'])
def test_a_damaged_record_never_expires(base: Path, root: Path, damage: bytes) -> None:
    """Row 14, 103: what a retained scope's damaged record cannot say is kept."""
    (root / f"k-{TOKENS[0]}").mkdir()
    (root / f"k-{TOKENS[0]}" / RECORD).write_bytes(damage)
    with DiskSweep(str(base)) as sweep:
        (record,) = sweep.records()
    assert (record.state, record.token, record.verdict) == ("retained", TOKENS[0], None)
    assert not record.expired(Instant(1e12, 1e12))


# -- who inherited a lease


def owner_died(home: Path) -> None:
    """Have the owner file in *home* tell of a process that is gone."""
    text = (home / "owner").read_text(encoding="ascii")
    started = text.partition('"started": ')[2].partition(",")[0]
    (home / "owner").write_text(text.replace(f'"started": {started}', '"started": 1'), encoding="ascii")


def test_an_inherited_lease_is_told(storage: LocalDiskStorage) -> None:
    """Trap: a lease whose owner is gone and that somebody inherited is told with who holds it."""
    home = files_in(storage, "file").parent
    owner_died(home)
    with storage.sweeping() as sweep:
        assert told(sweep) == []
        assert sweep.live == 1
        reason = reasons(sweep)[home.name]
    assert f"its lease is held by process {os.getpid()} (" in reason
    assert "who inherited it from process" in reason
    (found,) = storage.areas()
    assert found.held_by is not None
    assert "which is gone" in found.held_by


def test_nobody_can_be_named(storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 40: where no holder is found, as when another sweep is at it, an instance counts as living."""
    owner_died(files_in(storage, "file").parent)
    monkeypatch.setattr("tempscope.storages._holders._list", lambda path: [])
    with storage.sweeping() as sweep:
        assert told(sweep) == []
        assert (sweep.live, sweep.left) == (1, ())


@pytest.mark.parametrize("change", ["boot_id", "pid_namespace", "no owner"])
def test_an_owner_from_elsewhere_is_not_judged(storage: LocalDiskStorage, change: str) -> None:
    """Trap 19: an owner of another boot or pid namespace, or of none, is never judged by its number."""
    home = files_in(storage, "file").parent
    owner_died(home)
    if change == "no owner":
        (home / "owner").unlink()
    else:
        text = (home / "owner").read_text(encoding="ascii")
        (home / "owner").write_text(text.replace(f'"{change}": "', f'"{change}": "x'), encoding="ascii")
    with storage.sweeping() as sweep:
        assert told(sweep) == []
        assert sweep.left == ()
    (found,) = storage.areas()
    assert found.held_by is None


def test_not_all_of_many_living_are_asked(storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many living instances a sweep asks only some whether their owner is gone."""
    owner_died(files_in(storage, "file").parent)
    monkeypatch.setattr(_scan, "_some_of", lambda names: [])
    with storage.sweeping() as sweep:
        assert told(sweep) == []
        assert (sweep.live, sweep.left) == (1, ())
    monkeypatch.undo()
    assert len(_scan._some_of([str(number) for number in range(100)])) == 8


def test_what_vanishes_while_we_look(base: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 40: a name that is gone by the time it is opened is nothing to tell."""
    monkeypatch.setattr(_scan, "_names_in", lambda root: [f"i-{TOKENS[0]}", f"k-{TOKENS[1]}"])
    with DiskSweep(str(base)) as sweep:
        assert told(sweep) == []
        assert sweep.left == ()


def test_a_process_that_ends_while_we_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends while its descriptors are looked at is none."""
    from tempscope.storages import _holders

    assert _holders._list("/proc/0/fdinfo") == []
    assert _holders._read("/proc/0/comm") == ""
    assert _holders._name(0) == "process 0"


# -- taking back


def test_an_orphan_goes(storage: LocalDiskStorage, base: Path, root: Path) -> None:
    """A dead process's scope is removed with all in it, and then its instance, without a trace."""
    directory = files_in(storage, "one", "two")
    abandon(storage)
    assert [removal.removed for removal in all_reclaimed(base)] == [3, 0]
    assert below(root) == [MARKER]
    assert not directory.exists()


def test_an_orphan_stays(storage: LocalDiskStorage, base: Path, root: Path) -> None:
    """A dead process's scope that is to be kept is retained under its token, whole, with its record."""
    record = record_of("evidence")
    storage.open_area(record).create_file("file").write_bytes(b"content")
    abandon(storage)
    with DiskSweep(str(base)) as sweep:
        first, second = sweep.records()
        removal = sweep.reclaim(attrs.evolve(first, outcome=Outcome("never_closed")), KEEP)
        assert sweep.reclaim(second, DELETE).complete
    assert removal.kept == 1
    assert removal.entries[0].path == str(root / f"k-{record.token}")
    assert below(root) == [MARKER, *(f"k-{record.token}{end}" for end in ("", f"/{RECORD}", "/file"))]
    with open_directory(str(root / f"k-{record.token}")) as directory:
        kept = read_record(directory.fd)
    assert kept is not None
    assert kept.verdict == KEEP
    assert kept.outcome == Outcome("never_closed")
    assert kept.owner is not None
    assert kept.usage is not None
    assert kept.usage.files == 1


@pytest.mark.parametrize("token", ["taken", "../../etc", "x" * 26])
def test_a_hostile_token(storage: LocalDiskStorage, base: Path, root: Path, token: str) -> None:
    """Row 103: a token from a damaged journal that is taken, or is no token, is answered by a new one."""
    (root / f"k-{TOKENS[0]}").mkdir()
    (root / f"k-{TOKENS[0]}" / "theirs").touch()
    area = storage.open_area(record_of(token=TOKENS[0] if token == "taken" else token))
    area.create_file("ours")
    abandon(storage)
    with DiskSweep(str(base)) as sweep:
        (orphan,) = [record for record in sweep.records() if record.state == "orphaned"]
        assert sweep.reclaim(orphan, KEEP).kept == 1
    kept = [name for name in os.listdir(root) if name.startswith("k-") and (root / name / "ours").exists()]
    assert len(kept) == 1
    assert kept != [f"k-{TOKENS[0]}"]
    assert below(root / f"k-{TOKENS[0]}") == ["theirs"]
    with open_directory(str(root / kept[0])) as directory:
        record = read_record(directory.fd)
    assert record is not None
    assert record.token == kept[0][2:]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOTEMPTY])
def test_an_orphan_that_cannot_be_kept_stays_in_place(
    storage: LocalDiskStorage, base: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Row 18: where the move is refused the scope stays whole where it is, reported, for the next sweep."""
    directory = files_in(storage, "file")
    abandon(storage)

    def refused(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch, DiskSweep(str(base)) as sweep:
        orphan, instance = sweep.records()
        real = os.rename
        patch.setattr(
            _reclaim.os, "rename", lambda a, b, **fds: refused() if b.startswith("k-") else real(a, b, **fds)
        )
        removal = sweep.reclaim(orphan, KEEP)
        assert removal.failed == 1
        assert removal.entries[0].errno == code
        assert sweep.reclaim(instance, DELETE) == Removal()
    assert below(directory) == [RECORD, "file"]
    assert [removal.complete for removal in all_reclaimed(base, KEEP)] == [True, True]


def test_a_held_instance_is_left(storage: LocalDiskStorage) -> None:
    """P1: what a living owner holds is left alone at the moment of acting, whatever was told before."""
    directory = files_in(storage, "file")
    for place in (directory, directory.parent):
        removal = storage.reclaim(attrs.evolve(record_of(), directory=place), DELETE)
        assert removal.skipped == 1
        assert removal.entries[0].reason == "somebody holds it"
    assert below(directory) == ["file"]


def after_the_lock(monkeypatch: pytest.MonkeyPatch, home: Path, act: Callable[[], object]) -> None:
    """Have *act* done right after a sweep has locked *home*."""
    real = _lock.seize

    def locking(fd: int) -> _lock.LockState:
        state = real(fd)
        if os.readlink(f"/proc/self/fd/{fd}") == str(home):
            act()
        return state

    monkeypatch.setattr(_lock, "seize", locking)


@pytest.mark.parametrize("when", ["telling", "acting"])
def test_an_instance_that_was_replaced(
    storage: LocalDiskStorage, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """P1, security rule 4: a directory that took the place of the one that was locked is left alone."""
    home = files_in(storage, "file").parent
    abandon(storage)

    def swap() -> None:
        os.rename(home, tmp_path / "moved")
        (home / "a1").mkdir(parents=True)

    after_the_lock(monkeypatch, home, swap)
    with DiskSweep(str(base)) as sweep:
        if when == "telling":
            assert told(sweep) == []
            assert reasons(sweep) == {home.name: "it was replaced meanwhile"}
        else:
            removal = sweep.reclaim(attrs.evolve(record_of(), directory=home / "a1"), DELETE)
            assert removal.entries[0].reason == "it was replaced meanwhile"
    assert below(home) == ["a1"]
    assert below(tmp_path / "moved" / "a1") == ["file"]


def test_another_sweep_was_faster(
    storage: LocalDiskStorage, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 40: an instance that another sweep removed before we locked it is nothing to tell."""
    home = files_in(storage, "file").parent
    abandon(storage)
    after_the_lock(monkeypatch, home, lambda: shutil.rmtree(home))
    with DiskSweep(str(base)) as sweep:
        assert told(sweep) == []
        assert sweep.left == ()


def test_what_is_gone_is_nothing(base: Path, root: Path) -> None:
    """Row 40: what another sweep removed meanwhile is nothing to do, and no error."""
    with DiskSweep(str(base)) as sweep:
        for name in ("i-", "k-", "t-", "d-"):
            record = attrs.evolve(record_of(), directory=root / f"{name}{TOKENS[0]}")
            assert sweep.reclaim(record, DELETE) == Removal()


@pytest.mark.parametrize(
    "place",
    [
        "elsewhere",
        ".",
        "notes",
        f"f-{TOKENS[0]}",
        f"i-{TOKENS[0]}/journal",
        f"i-{TOKENS[0]}/a1/file",
        f"i-{TOKENS[0]}/../k-{TOKENS[1]}",
        f"k-{TOKENS[0]}/a1",
        "",
    ],
)
def test_records_that_lead_elsewhere(base: Path, root: Path, place: str) -> None:
    """Security rule 5: a record whose directory no sweep may touch is refused, whatever it says."""
    directory = {"": None, "elsewhere": base}.get(place, root / place)
    with DiskSweep(str(base)) as sweep:
        removal = sweep.reclaim(attrs.evolve(record_of(), directory=directory), DELETE)
    assert removal.skipped == 1
    assert removal.entries[0].reason == "it is not a directory that a sweep may touch"


def test_a_command_that_still_works(storage: LocalDiskStorage, base: Path) -> None:
    """
    Row 15, L3: a scope whose directory a command still holds is left, and its instance with it.

    Trap 9: the owner is dead, its commands still write.
    """
    held, free = files_in(storage, "held"), files_in(storage, "free")
    home = abandon(storage)
    lease = os.open(held, os.O_RDONLY)
    fcntl.flock(lease, fcntl.LOCK_SH)
    first, second, third = all_reclaimed(base)
    assert first.skipped == 1
    assert "a command that its owner started still holds it" in first.entries[0].reason
    assert second.removed == 2
    assert third == Removal()
    assert below(home) == ["a1", "a1/held", "journal", "owner"]
    os.close(lease)
    assert [removal.complete for removal in all_reclaimed(base)] == [True, True]
    assert not home.exists()
    assert not free.exists()


def test_something_else_in_place_of_a_scope(storage: LocalDiskStorage, base: Path, tmp_path: Path) -> None:
    """Row 97: a link or a file that stands where a dead process's scope was is unlinked, never followed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    link, file = files_in(storage, "file"), files_in(storage, "file")
    for place in (link, file):
        shutil.rmtree(place)
    link.symlink_to(outside)
    file.touch()
    home = abandon(storage)
    with DiskSweep(str(base)) as sweep:
        records = list(sweep.records())
        assert [sweep.reclaim(record, DELETE, dry_run=True).complete for record in records] == [True] * 3
        assert [sweep.reclaim(record, KEEP).removed for record in records[:2]] == [1, 1]
        assert sweep.reclaim(attrs.evolve(records[0], directory=home / "a9"), DELETE) == Removal()
        assert sweep.reclaim(records[2], DELETE).complete
    assert below(outside) == ["precious"]
    assert not home.exists()


@needs_root
@pytest.mark.parametrize("permissions", [0o000, 0o500])
def test_a_scope_that_its_job_shut(open_to_all: Path, permissions: int) -> None:
    """Row 95: a dead job's directory without permissions is opened up, and goes."""

    def attempt() -> list[bool]:
        with LocalDiskStorage(open_to_all) as storage:
            files_in(storage, "file").chmod(permissions)
            home = abandon(storage)
            complete = [removal.complete for removal in all_reclaimed(open_to_all)]
            return [*complete, home.exists()]

    assert as_nobody(attempt) == [True, True, False]


def test_a_scope_that_cannot_be_opened(
    storage: LocalDiskStorage, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 16: a scope that the system does not open is a failure of its own; the rest goes."""
    bad, good = files_in(storage, "file"), files_in(storage, "file")
    abandon(storage)
    real = _reclaim.open_subdirectory

    def broken(fd: int, name: str) -> Any:
        if name == bad.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, name)

    with monkeypatch.context() as patch:
        patch.setattr(_reclaim, "open_subdirectory", broken)
        removals = all_reclaimed(base)
    assert [removal.failed for removal in removals] == [1, 0, 0]
    assert bad.exists()
    assert not good.exists()


def test_trash_goes(base: Path, root: Path) -> None:
    """Row 13: a deletion that was begun is finished."""
    (root / f"t-{TOKENS[0]}" / "deep" / "er").mkdir(parents=True)
    assert [removal.removed for removal in all_reclaimed(base)] == [3]
    assert below(root) == [MARKER]


@pytest.mark.parametrize("refused", [False, True])
def test_what_was_kept_goes(base: Path, root: Path, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 18: a retained scope goes by a rename into trash, or in place where that is refused."""
    (root / f"k-{TOKENS[0]}" / "deep").mkdir(parents=True)
    if refused:

        def no(*_: object, **__: object) -> None:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

        monkeypatch.setattr(_reclaim.os, "rename", no)
    assert [removal.removed for removal in all_reclaimed(base)] == [2]
    assert below(root) == [MARKER]


def test_what_was_kept_is_kept_on(base: Path, root: Path) -> None:
    """Keeping on what is kept writes the new verdict into its record; trash cannot be kept."""
    place = root / f"k-{TOKENS[0]}"
    place.mkdir()
    with open_directory(str(place)) as directory:
        write_record(directory.fd, record_of("kept", token=TOKENS[0], verdict=DELETE))
        (root / f"t-{TOKENS[1]}").mkdir()
        removals = all_reclaimed(base, KEEP)
        assert [removal.kept for removal in removals] == [1, 1]
        record = read_record(directory.fd)
    assert record is not None
    assert (record.name, record.verdict) == ("kept", KEEP)
    assert (root / f"t-{TOKENS[1]}").exists()


def test_a_waiting_scope_is_kept(base: Path, root: Path) -> None:
    """A handed-over scope that nobody took and that is to be kept becomes a retained one."""
    place, record = root / f"d-{TOKENS[0]}", record_of("waiting")
    place.mkdir()
    (place / "file").touch()
    with open_directory(str(place)) as directory:
        write_record(directory.fd, record)
    assert [removal.kept for removal in all_reclaimed(base, KEEP)] == [1]
    assert below(root) == [MARKER, *(f"k-{record.token}{end}" for end in ("", f"/{RECORD}", "/file"))]


def test_what_cannot_be_removed_is_told_with_its_place(
    base: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 24: what cannot be removed is told with its place, and stays in trash."""
    (root / f"k-{TOKENS[0]}").mkdir()
    (root / f"k-{TOKENS[0]}" / "busy").touch()

    def busy(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    with monkeypatch.context() as patch:
        patch.setattr("tempscope.storages._delete.os.unlink", busy)
        (removal,) = all_reclaimed(base)
    assert removal.failed == 1
    (trash,) = [name for name in os.listdir(root) if name.startswith("t-")]
    assert removal.entries[0].path == str(root / trash / "busy")
    assert [removal.complete for removal in all_reclaimed(base)] == [True]


def test_a_budget(base: Path, root: Path) -> None:
    """Row 54: a removal that uses up its budget stops, says so, and the next one goes on."""
    (root / f"t-{TOKENS[0]}").mkdir()
    for number in range(20):
        (root / f"t-{TOKENS[0]}" / f"file{number}").touch()
    (removal,) = all_reclaimed(base, budget=5)
    assert removal.failed == 1
    assert 0 < len(below(root / f"t-{TOKENS[0]}")) < 20
    assert [removal.complete for removal in all_reclaimed(base)] == [True]


# -- outside paths


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory outside of everything."""
    place = tmp_path / "outside"
    place.mkdir()
    return place


def register(storage: LocalDiskStorage, *paths: Path) -> None:
    """Register *paths* in a scope of their own."""
    area = storage.open_area(record_of())
    for path in paths:
        area.note_outside(path, str(identify(str(path)) or ""))


def test_registered_paths_go(storage: LocalDiskStorage, base: Path, outside: Path) -> None:
    """Registered outside paths, files and directories, go after a crash, each named in the result."""
    (outside / "file").write_bytes(b"content")
    (outside / "directory" / "deep").mkdir(parents=True)
    register(storage, outside / "file", outside / "directory", outside / "gone")
    abandon(storage)
    removal = all_reclaimed(base)[-1]
    assert removal.removed == 2
    assert {entry.path for entry in removal.entries if entry.kind == "removed"} == {
        str(outside / "file"),
        str(outside / "directory"),
    }
    assert below(outside) == []


def test_registered_paths_that_are_others_now(storage: LocalDiskStorage, base: Path, outside: Path) -> None:
    """P2: a registered path that was replaced, or did not exist then, is kept and told."""
    (outside / "replaced").write_bytes(b"old")
    register(storage, outside / "replaced", outside / "new")
    (outside / "other").write_bytes(b"precious")
    os.rename(outside / "other", outside / "replaced")
    (outside / "new").write_bytes(b"precious")
    home = abandon(storage)
    removal = all_reclaimed(base)[-1]
    assert (removal.removed, removal.skipped) == (0, 2)
    assert {entry.path for entry in removal.entries} == {str(outside / "replaced"), str(outside / "new")}
    assert below(outside) == ["new", "replaced"]
    assert not home.exists()


def test_a_registered_path_that_cannot_be_deleted(
    storage: LocalDiskStorage, base: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: a registered path that cannot be deleted now is told, remembered, and deleted by the next sweep."""
    (outside / "file").touch()
    register(storage, outside / "file")
    home = abandon(storage)
    monkeypatch.setattr(
        _reclaim,
        "remove_outside",
        lambda *_, **__: Removal(failed=1, entries=(_scan.Entry("file", "failed", "x"),)),
    )
    removal = all_reclaimed(base)[-1]
    assert removal.failed == 1
    assert removal.entries[0].path == str(outside / "file")
    assert "journal" in below(home)
    monkeypatch.undo()
    assert all_reclaimed(base)[-1].removed == 1
    assert below(outside) == []


def test_paths_that_were_only_tracked(storage: LocalDiskStorage, base: Path, outside: Path) -> None:
    """A path that was only tracked is left, and told, as long as it is there; so is its journal."""
    (outside / "file").touch()
    (outside / "another").touch()
    for name, by in (("file", "one"), ("file", "two"), ("missing", "one")):
        path = outside / name
        storage.track(path, str(identify(os.fspath(path)) or ""), by)
    home = files_in(storage, "file").parent
    with open(home / "journal", "a", encoding="ascii") as journal:
        journal.write(f'{{"path":"{outside}/another","identity":null,"kind":"tracked","by":"one"}}\n')
        journal.write("rubbish\n")
    abandon(storage)
    for _ in range(2):
        removal = all_reclaimed(base)[-1]
        assert [(entry.path, entry.reason) for entry in removal.entries] == [
            (
                f"{outside}/file",
                "it is tracked by a process that is gone: whoever tracks it deletes it by age",
            ),
            (str(home), "1 lines of its journal could not be read"),
        ]
    assert below(outside) == ["another", "file"]
    assert below(home) == ["journal", "owner"]
    (outside / "file").unlink()
    all_reclaimed(base)
    assert not home.exists()


@pytest.mark.parametrize("where", ["handed over", "about to be"])
@pytest.mark.parametrize("verdict", [DELETE, KEEP])
def test_paths_that_went_along(
    storage: LocalDiskStorage, base: Path, root: Path, outside: Path, where: str, verdict: Verdict
) -> None:
    """Outside paths that a handed-over scope took along, or was about to, go when it is swept."""
    (outside / "file").touch()
    directory = files_in(storage, "file")
    line = f'{{"path":"{outside}/file","identity":"{identify(str(outside / "file"))}","kind":"outside"}}'
    (directory / ".tempscope-outside").write_text(line + "\n", encoding="ascii")
    if where == "handed over":
        os.rename(directory, root / f"d-{TOKENS[0]}")
    abandon(storage)
    foretold = [removal.entries for removal in _dry(base, verdict)]
    removals = all_reclaimed(base, verdict)
    assert [removal.entries for removal in removals] == foretold
    assert str(outside / "file") in [entry.path for removal in removals for entry in removal.entries]
    assert below(outside) == []
    assert [name[:2] for name in os.listdir(root) if name != MARKER] == (["k-"] if verdict.keep else [])


def _dry(base: Path, verdict: Verdict) -> list[Removal]:
    with DiskSweep(str(base)) as sweep:
        return [sweep.reclaim(record, verdict, dry_run=True) for record in sweep.records()]


@pytest.mark.parametrize("where", ["handed over", "about to be"])
def test_a_path_that_went_along_and_stays(
    storage: LocalDiskStorage, base: Path, root: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: a path that went along and cannot be deleted now keeps its scope until the next sweep."""
    directory = files_in(storage, "file")
    line = '{"path":"/nowhere/file","identity":null,"kind":"outside"}\n'
    (directory / ".tempscope-outside").write_text(line, encoding="ascii")
    place = directory
    if where == "handed over":
        place = root / f"d-{TOKENS[0]}"
        os.rename(directory, place)
    abandon(storage)
    monkeypatch.setattr(_reclaim, "remove_outside", lambda *_, **__: Removal(failed=1))
    assert sum(removal.failed for removal in all_reclaimed(base)) == 1
    assert (place / "file").exists()


@pytest.mark.parametrize("where", ["handed over", "about to be"])
@pytest.mark.parametrize("linked", [False, True])
def test_a_list_of_paths_that_cannot_be_read(
    storage: LocalDiskStorage,
    base: Path,
    root: Path,
    where: str,
    linked: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P4: what cannot be read keeps its scope until the next sweep; a link put there tells nothing."""
    directory = place = files_in(storage, "file")
    name = ".tempscope-outside"
    (directory / name).symlink_to("file") if linked else (directory / name).touch()
    if where == "handed over":
        place = root / f"d-{TOKENS[0]}"
        os.rename(directory, place)
    abandon(storage)
    real = _reclaim.read_journal
    blind = _journal.JournalContent(unreadable=True)
    monkeypatch.setattr(_reclaim, "read_journal", lambda fd, *of: blind if of else real(fd))
    assert sum(removal.failed for removal in all_reclaimed(base)) == int(not linked)
    assert (place / "file").exists() is not linked


# -- only looking


def test_a_dry_run_touches_nothing(storage: LocalDiskStorage, base: Path, root: Path, outside: Path) -> None:
    """Row 109: a dry run says of everything what a real run then does, and changes nothing."""
    (outside / "file").touch()
    (outside / "replaced").touch()
    files_in(storage, "file", name="goes")
    files_in(storage, "file", name="stays")
    register(storage, outside / "file", outside / "replaced")
    (outside / "other").touch()
    os.rename(outside / "other", outside / "replaced")
    abandon(storage)
    (root / f"t-{TOKENS[0]}").mkdir()
    (root / f"k-{TOKENS[1]}").mkdir()
    (root / f"d-{TOKENS[2]}").mkdir()
    before = {name: (base / name).lstat() for name in below(base)}
    looks = {name: (status.st_ino, status.st_mtime_ns, status.st_ctime_ns) for name, status in before.items()}

    def run(dry_run: bool) -> list[Removal]:
        with DiskSweep(str(base)) as sweep:
            return [
                sweep.reclaim(record, KEEP if record.name == "stays" else DELETE, dry_run=dry_run)
                for record in sweep.records()
            ]

    foretold = run(dry_run=True)
    after = {name: (base / name).lstat() for name in below(base)}
    assert {name: (s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for name, s in after.items()} == looks
    done = run(dry_run=False)
    assert [(r.removed > 0, r.kept, r.skipped, r.failed) for r in foretold] == [
        (r.removed > 0, r.kept, r.skipped, r.failed) for r in done
    ]
    assert [r.removed_bytes for r in foretold[:1]] == [r.removed_bytes for r in done[:1]]
    assert [r.entries for r in foretold] == [r.entries for r in done]


def test_a_dry_run_of_what_is_kept(base: Path, root: Path) -> None:
    """A dry run that keeps on what is kept does not write its record."""
    (root / f"k-{TOKENS[0]}").mkdir()
    with DiskSweep(str(base)) as sweep:
        (record,) = sweep.records()
        assert sweep.reclaim(record, KEEP, dry_run=True).kept == 1
    assert below(root / f"k-{TOKENS[0]}") == []


def test_a_dry_run_beside_a_command(storage: LocalDiskStorage, base: Path, outside: Path) -> None:
    """A dry run knows that an instance stays in which a command still holds a scope."""
    (outside / "file").touch()
    held = files_in(storage, "held")
    register(storage, outside / "file")
    abandon(storage)
    lease = os.open(held, os.O_RDONLY)
    fcntl.flock(lease, fcntl.LOCK_SH)
    with DiskSweep(str(base)) as sweep:
        removals = [sweep.reclaim(record, DELETE, dry_run=True) for record in sweep.records()]
    assert [removal.skipped for removal in removals] == [1, 0, 0]
    assert removals[-1] == Removal()
    os.close(lease)


def test_what_a_record_keeps_of_its_owner(storage: LocalDiskStorage, base: Path) -> None:
    """The owner that a record itself tells goes before the instance's."""
    record: ScopeRecord = record_of()
    storage.open_area(record).create_file("file")
    abandon(storage)
    with DiskSweep(str(base)) as sweep:
        first = next(iter(sweep.records()))
    assert first.owner is not None
    assert first.owner.pid == os.getpid()
