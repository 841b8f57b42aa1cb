"""The journal: what is written survives the process; what is read may come from a stranger."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempscope.storages import _journal
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._identity import Identity
from tempscope.storages._journal import JOURNAL, Journal, OutsidePath, encode_outside, read_journal
from tempscope.storages._records import MAX_RECORD_BYTES

from .conftest import needs_root, record_of


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    """An instance's directory, open."""
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def journal(place: int) -> Iterator[Journal]:
    """A journal in it."""
    journal = Journal(place)
    yield journal
    journal.close()


def outside(number: int) -> OutsidePath:
    """Return a registered path with an identity."""
    return OutsidePath(f"/somewhere/{number}", Identity(1, number, 3, "ff"))


def write(tmp_path: Path, *lines: bytes) -> None:
    """Write a journal as anybody could."""
    (tmp_path / JOURNAL).write_bytes(b"".join(lines))


def test_what_is_written_is_read(journal, place, tmp_path):
    """Areas and outside paths are read back as they were written; a dropped path is gone."""
    record = record_of("job")
    journal.add_area("a1", record)
    journal.add_outside(outside(1))
    journal.add_outside(OutsidePath("/later", None))
    journal.add_outside(outside(2))
    journal.drop_outside("/somewhere/2")
    content = read_journal(place)
    assert content.areas == {"a1": record}
    assert content.outside == {"/somewhere/1": outside(1), "/later": OutsidePath("/later", None)}
    assert content.ignored == 0
    assert (tmp_path / JOURNAL).stat().st_mode & 0o777 == 0o600


def test_a_missing_journal_is_empty_and_a_link_is_not_followed(place, tmp_path):
    """No journal tells nothing; one that is a link is not followed, and reported. Security rule 10."""
    assert read_journal(place).ignored == 0
    (tmp_path / "elsewhere").write_text("{}\n")
    (tmp_path / JOURNAL).symlink_to("elsewhere")
    assert read_journal(place).unreadable
    with pytest.raises(FileExistsError):
        Journal(place)
    assert (tmp_path / "elsewhere").read_text() == "{}\n"


def test_each_line_is_one_write_before_the_call_returns(journal, place, mocker):
    """One event is one write, so that two threads' lines never mix and a crash leaves whole lines."""
    written = mocker.spy(os, "write")
    journal.add_outside(outside(1))
    journal.add_area("a1", record_of())
    journal.drop_outside("/somewhere/1")
    assert [call.args[1].count(b"\n") for call in written.call_args_list] == [1, 1, 1]


@pytest.mark.parametrize("cut", [0, 1, 20, -2, -1])
def test_a_torn_line_never_counts_and_takes_none_with_it(journal, place, tmp_path, mocker, cut):
    """
    Row 14, row 29: of a line that was written in part nothing counts, even if only the newline is missing.

    The next line is whole again, whatever part was written.
    """
    journal.add_outside(outside(1))
    really = os.write
    mocker.patch.object(
        os, "write", lambda fd, data: really(fd, data[: cut or len(data) + cut]) if cut else 0
    )
    with pytest.raises(OSError, match="Errno") as caught:
        journal.add_outside(outside(2))
    assert caught.value.errno == errno.ENOSPC
    mocker.stopall()
    assert list(read_journal(place).outside) == ["/somewhere/1"]
    journal.add_outside(outside(3))
    assert list(read_journal(place).outside) == ["/somewhere/1", "/somewhere/3"]


@needs_root
def test_on_a_full_disk_a_path_is_let_go_all_the_same(tiny_disk):
    """
    Trap: the journal itself cannot be written: a path that is unregistered on a full disk never comes back.

    Row 17: adding is an error, and what was there counts on.
    """
    fd = os.open(tiny_disk, os.O_RDONLY)
    journal = Journal(fd)
    for number in range(3):
        journal.add_outside(outside(number))
    with pytest.raises(OSError, match="No space"), (tiny_disk / "rest").open("wb", buffering=0) as rest:
        while rest.write(b"x" * 4096):
            pass
    with pytest.raises(OSError, match="No space"):
        for number in range(10, 1000):
            journal.add_outside(outside(number))
    before = set(read_journal(fd).outside)
    journal.drop_outside("/somewhere/1")
    assert set(read_journal(fd).outside) == before - {"/somewhere/1"}
    with pytest.raises(OSError, match="No space"):
        journal.drop_outside("/never/registered")
    journal.close()
    os.close(fd)


def test_a_path_that_cannot_be_let_go_is_an_error(journal, place, mocker):
    """
    When neither a line nor a correction can be written, that is raised.

    And the journal tells of the path.
    """
    journal.add_outside(outside(1))
    mocker.patch.object(os, "write", side_effect=OSError(errno.EIO, "broken"))
    with pytest.raises(OSError, match="broken"):
        journal.drop_outside("/somewhere/1")
    mocker.stopall()
    assert list(read_journal(place).outside) == ["/somewhere/1"]
    journal.drop_outside("/somewhere/1")
    assert read_journal(place).outside == {}


def test_a_closed_journal_says_so(journal, place):
    """After closing nothing is written, and nothing is made anew."""
    journal.close()
    with pytest.raises(OSError, match="closed"):
        journal.add_outside(outside(1))
    journal.drop_area("a1")
    journal.close()


# -- rewriting


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals are rewritten early."""
    monkeypatch.setattr(_journal, "_REWRITE_FROM_BYTES", 400)


def test_a_path_may_be_registered_and_tracked(journal, place):
    """Who registers a path and who tracks it do not know of each other, nor do two who track it."""
    journal.add_outside(outside(1))
    journal.add_tracked("one", outside(1))
    journal.add_tracked("another", OutsidePath("/somewhere/1", None))
    journal.add_tracked("another", outside(1))
    journal.add_tracked("one", OutsidePath("/later", None))
    assert read_journal(place).tracked == {
        ("one", "/somewhere/1"): outside(1),
        ("another", "/somewhere/1"): outside(1),
        ("one", "/later"): OutsidePath("/later", None),
    }
    journal.drop_tracked("one", "/somewhere/1")
    journal.drop_tracked("one", "/never/tracked")
    journal.drop_outside("/somewhere/1")
    content = read_journal(place)
    assert (list(content.outside), list(content.tracked)) == (
        [],
        [("another", "/somewhere/1"), ("one", "/later")],
    )
    assert journal.tells_outside
    assert journal.tracked() == [("one", OutsidePath("/later", None)), ("another", outside(1))]
    journal.drop_tracked("one", "/later")
    journal.drop_tracked("another", "/somewhere/1")
    assert not journal.tells_outside


@pytest.mark.parametrize("by", [None, "me"])
def test_what_counts_is_measured_as_it_is_written(journal, place, tmp_path, by):
    """What a rewriting would write is known to the byte, also after a path has become another file."""

    def add(path: OutsidePath) -> None:
        journal.add_outside(path) if by is None else journal.add_tracked(by, path)

    def drop(path: str) -> None:
        journal.drop_outside(path) if by is None else journal.drop_tracked(by, path)

    journal.add_area("a1", record_of())
    for each in (outside(1), OutsidePath("/somewhere/2", None), outside(2), outside(12345)):
        add(each)
    for path in ("/somewhere/1", "/somewhere/1", "/never/added"):
        drop(path)
    before = read_journal(place)
    journal.reopen(place)
    assert read_journal(place) == before
    assert journal._live_bytes == (tmp_path / JOURNAL).stat().st_size
    for path in ("/somewhere/2", "/somewhere/12345"):
        drop(path)
    journal.drop_area("a1")
    assert journal._live_bytes == 0


def test_a_finaliser_may_let_the_same_path_go(journal, place, mocker):
    """A path that a finaliser lets go of while its own letting go is written is gone, once."""
    really, ran = os.write, []

    def hooked(fd: int, data: bytes) -> int:
        if b"gone" in data and not ran:
            ran.append(data)
            journal.drop_tracked("me", "/somewhere/1")
        return really(fd, data)

    journal.add_tracked("me", outside(1))
    mocker.patch.object(os, "write", hooked)
    journal.drop_tracked("me", "/somewhere/1")
    assert (read_journal(place).tracked, journal._live_bytes, len(ran)) == ({}, 0, 1)


@pytest.mark.usefixtures("small")
def test_what_is_tracked_is_written_anew_too(journal, place, tmp_path):
    """Tracking makes a journal void as registering does, and what still is tracked stays in it."""
    for number in range(100):
        journal.add_tracked("me", outside(number))
        if number != 7:
            journal.drop_tracked("me", f"/somewhere/{number}")
    assert (tmp_path / JOURNAL).stat().st_size < 5_000
    assert read_journal(place).tracked == {("me", "/somewhere/7"): outside(7)}
    assert journal._live_bytes == len((tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)[0])


@pytest.mark.usefixtures("small")
def test_a_mostly_void_journal_is_rewritten(journal, place, tmp_path):
    """A journal most of which is void is written anew; what still counts stays, also what came later."""
    record = record_of("job")
    journal.add_area("a1", record)
    journal.add_area("a1", record)
    for number in range(200):
        journal.add_outside(outside(number))
        if number != 7:
            journal.drop_outside(f"/somewhere/{number}")
    assert (tmp_path / JOURNAL).stat().st_size < 5_000
    content = read_journal(place)
    assert (content.areas, list(content.outside), content.ignored) == ({"a1": record}, ["/somewhere/7"], 0)
    journal.drop_area("a1")
    assert os.listdir(place) == [JOURNAL]


@pytest.mark.usefixtures("small")
def test_rewriting_keeps_what_threads_append_meanwhile(journal, place):
    """Whatever threads append and drop at once, all that is registered at the end is in the journal."""
    threads, count = 4, 150
    barrier = threading.Barrier(threads, timeout=30)

    def run(me: int) -> None:
        barrier.wait()
        for number in range(count):
            journal.add_outside(outside(me * 1000 + number))
            if number % 10:
                journal.drop_outside(f"/somewhere/{me * 1000 + number}")

    workers = [threading.Thread(target=run, args=(me,)) for me in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    content = read_journal(place)
    expected = {f"/somewhere/{me * 1000 + number}" for me in range(threads) for number in range(0, count, 10)}
    assert set(content.outside) == expected
    assert content.ignored == 0


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("moment", ["reopen", "write", "rename", "swap"])
def test_what_a_finaliser_appends_while_rewriting_is_kept(journal, place, mocker, moment):
    """A finaliser may run in this very thread at any moment of a rewriting: what it appends is kept."""
    owner, name = {
        "reopen": (Descriptor, "reopen"),
        "write": (os, "write"),
        "rename": (os, "rename"),
        "swap": (Descriptor, "swap"),
    }[moment]
    really, ran = getattr(owner, name), []

    def hooked(*args: Any, **kwargs: Any) -> Any:
        result = really(*args, **kwargs)
        if journal._rewriting and not ran:
            ran.append(moment)
            journal.add_outside(outside(1001))
            journal.add_outside(outside(1002))
            journal.drop_outside("/somewhere/1001")
        return result

    mocker.patch.object(owner, name, hooked)
    journal.add_outside(outside(7))
    for number in range(100, 200):
        journal.add_outside(outside(number))
        journal.drop_outside(f"/somewhere/{number}")
    assert ran == [moment]
    assert sorted(read_journal(place).outside) == ["/somewhere/1002", "/somewhere/7"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("call", ["rename", "short write"])
def test_a_rewriting_that_fails_leaves_the_long_journal(journal, place, mocker, call):
    """Row 17: when a journal cannot be rewritten the old one counts on, and nothing else lies about."""
    really = os.write

    def short(fd: int, data: bytes) -> int:
        return really(fd, data[:-1]) if journal._rewriting else really(fd, data)

    if call == "rename":
        mocker.patch.object(os, "rename", side_effect=OSError(errno.ENOSPC, "full"))
    else:
        mocker.patch.object(os, "write", short)
    journal.add_outside(outside(7777))
    for number in range(100):
        journal.add_outside(outside(number))
        journal.drop_outside(f"/somewhere/{number}")
    assert list(read_journal(place).outside) == ["/somewhere/7777"]
    assert os.listdir(place) == [JOURNAL]


@pytest.mark.usefixtures("small")
def test_leftovers_of_a_failed_rewriting_that_cannot_be_removed(journal, place, mocker):
    """Where even the half-written new journal cannot be removed, the old one counts on."""
    mocker.patch.object(os, "rename", side_effect=OSError(errno.EROFS, "no"))
    mocker.patch.object(os, "unlink", side_effect=OSError(errno.EROFS, "no"))
    for number in range(30):
        journal.add_outside(outside(number))
        journal.drop_outside(f"/somewhere/{number}")
    assert read_journal(place).outside == {}


# -- hostile content


VALID = json.dumps({"path": "/p", "identity": "1:2:3:", "kind": "outside"}).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{",
        b"\xff\xfe",
        b"1" * 5_000,
        b"[" * 100_000,
        b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        b'{"path": NaN}',
        b'{"area": 1}',
        b'{"area": "a1"}',
        b'{"gone": ["/p"]}',
        b'{"path": "relative", "identity": null, "kind": "outside"}',
        b'{"path": "/a/../b", "identity": null, "kind": "outside"}',
        b'{"path": "/", "identity": null, "kind": "outside"}',
        b'{"path": "//", "identity": null, "kind": "outside"}',
        b'{"path": "/nul\\u0000", "identity": null, "kind": "outside"}',
        b'{"path": "/\\ud800", "identity": null, "kind": "outside"}',
        b'{"path": "/p", "identity": null, "kind": "code"}',
        b'{"path": "/p", "identity": null, "kind": "tracked"}',
        b'{"path": "/p", "identity": null, "kind": "tracked", "by": 1}',
        b'{"gone": "/p", "by": ["me"]}',
        b'{"path": "/p", "identity": null, "kind": ["outside"]}',
        b'{"path": "/p", "identity": 5, "kind": "outside"}',
        b'{"path": "/p", "identity": "1:2", "kind": "outside"}',
        b'{"path": "/p", "kind": 1}',
        b"x" * (MAX_RECORD_BYTES * 3),
    ],
)
def test_a_hostile_line_is_ignored_and_told(place, tmp_path, line):
    """
    Row 103: a huge, deep, mistyped or foreign line is ignored and counted; the lines around it count.

    Security rule 9. Trap 42: executing what was read (Toil): a line is data, and only data of our shape.
    """
    before = VALID.replace(b'"/p"', b'"/before"')
    after = VALID.replace(b'"/p"', b'"/after"')
    write(tmp_path, before + b"\n", line + b"\n", after + b"\n")
    content = read_journal(place)
    assert list(content.outside) == ["/before", "/after"]
    assert content.areas == {}
    assert content.ignored == 1


def test_an_unfinished_last_line_is_torn(place, tmp_path):
    """Row 14: a last line without its end never counts, even if it parses."""
    write(tmp_path, VALID + b"\n", VALID.replace(b"/p", b"/q"))
    content = read_journal(place)
    assert (list(content.outside), content.ignored) == (["/p"], 1)


def test_a_journal_without_end_is_read_to_a_limit(place, tmp_path, monkeypatch):
    """Row 103: reading a journal is bounded; one that is longer counts as unread, for its end counts most."""
    monkeypatch.setattr(_journal, "_MAX_JOURNAL_BYTES", 100_000)
    write(tmp_path, (VALID + b"\n") * 10_000, VALID.replace(b"/p", b"/late") + b"\n")
    assert read_journal(place).unreadable


def test_undecodable_paths_are_kept_exactly(journal, place):
    """Row 110: a path that is no UTF-8 is read back as exactly that path."""
    path = os.fsdecode(b"/somewhere/\xff")
    journal.add_outside(OutsidePath(path, None))
    assert os.fsencode(next(iter(read_journal(place).outside))) == b"/somewhere/\xff"


@given(st.binary(max_size=2_000))
def test_any_bytes_are_read(tmp_path_factory, data):
    """Row 103: reading is total: whatever the bytes, there is an answer."""
    place = tmp_path_factory.mktemp("journal")
    (place / JOURNAL).write_bytes(data)
    fd = os.open(place, os.O_RDONLY)
    try:
        read_journal(fd)
    finally:
        os.close(fd)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)
KEYS = st.sampled_from(["area", "gone", "path", "identity", "kind", "v", "token", "opened", "owner", "usage"])


@given(st.lists(st.dictionaries(KEYS, JSON)))
def test_any_objects_are_read(tmp_path_factory, objects):
    """Row 103: objects of our keys with anything in them are read, and only paths of our shape come out."""
    place = tmp_path_factory.mktemp("journal")
    (place / JOURNAL).write_text("".join(json.dumps(each) + "\n" for each in objects))
    fd = os.open(place, os.O_RDONLY)
    try:
        content = read_journal(fd)
    finally:
        os.close(fd)
    assert all(os.path.isabs(path) and os.path.normpath(path) == path for path in content.outside)


def test_paths_are_told_as_a_journal_tells_them(place, tmp_path):
    """Lines that were made apart from a journal are read as a journal's."""
    write(tmp_path, encode_outside([outside(1), OutsidePath("/later", None)]))
    assert list(read_journal(place).outside.values()) == [outside(1), OutsidePath("/later", None)]
