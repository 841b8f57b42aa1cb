"""Open files in memory behave as those of a real file system."""

from __future__ import annotations

import errno
import io
import os
import pickle
import threading
import warnings

import pytest

from tempscope.errors import UnsupportedError
from tempscope.storages.memory import MemoryPath


@pytest.fixture
def file(area) -> MemoryPath:
    """An empty file in memory only."""
    return area.create_file("file")


@pytest.mark.parametrize(
    "arguments",
    [
        *({"mode": mode} for mode in ("", "b", "rw", "rr", "q", "rbt", "+")),
        *({"mode": "rb", name: "utf-8"} for name in ("encoding", "errors", "newline")),
        {"mode": "r", "buffering": 0},
        {"mode": "r", "encoding": "no such"},
        {"mode": "r", "newline": "x"},
        {"mode": "rb", "buffering": 1},
        {"mode": "w", "buffering": 0},
    ],
    ids=str,
)
def test_arguments_are_refused_as_by_open(arguments, file, tmp_path):
    """What open refuses on the disk is refused in memory by the same exception with the same text."""
    (tmp_path / "file").touch()
    outcomes = []
    for path in (tmp_path / "file", file):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises((ValueError, LookupError, RuntimeWarning)) as error:
                path.open(**arguments)
        outcomes.append((error.type, str(error.value)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("mode", ["r", "w", "a", "r+", "w+", "a+", "x", "x+"])
@pytest.mark.parametrize("kind", ["", "b"])
@pytest.mark.parametrize("buffering", [-1, 0, 64])
def test_open_returns_the_same_kind_of_object(mode, kind, buffering, area, tmp_path):
    """The object is of the class that open returns, with the same mode and the same abilities."""
    if not kind and buffering == 0:
        return
    seen = []
    for top in (tmp_path, area.directory):
        path = top / "file"
        if mode[0] != "x":
            path.write_text("content")
        with path.open(mode + kind, buffering) as file:
            raw = buffering == 0
            seen.append(
                (raw or type(file), file.mode, file.readable(), file.writable(), file.seekable(), file.tell())
            )
            assert not file.isatty()
    assert seen[0] == seen[1]


@pytest.mark.parametrize("buffering", [-1, 0], ids=["buffered", "raw"])
def test_an_open_file_cannot_be_pickled(buffering, file):
    """An open file is refused by pickle, as one on the disk is."""
    with file.open("wb", buffering) as opened, pytest.raises(TypeError, match="pickle"):
        pickle.dumps(opened)


@pytest.mark.parametrize("mode", ["rb", "wb", "r+b", "r", "w"])
def test_below_its_buffer_is_a_raw_file(mode, file):
    """What a wrapper stands on is a raw stream with what one has and no more, though C answers for it."""
    file.write_bytes(b"one\ntwo\n")
    with file.open(mode) as opened:
        raw = opened.buffer.raw if "b" not in mode else opened.raw
        assert isinstance(raw, io.RawIOBase)
        assert (raw.name, raw.mode, raw.closed, raw.seekable()) == (file.display, raw.mode, False, True)
        assert not {name for name in ("getvalue", "getbuffer", "read1", "detach") if hasattr(raw, name)}
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(raw)
    assert raw.closed
    with pytest.raises(ValueError, match="closed"):
        raw.tell()


def test_a_detached_raw_file_goes_on(file):
    """Taken out of its wrappers, a raw stream is read and written on its own, line by line if wanted."""
    file.write_bytes(b"one\ntwo\nthree\nfour")
    with file.open("r+").detach().detach() as raw:
        assert raw.readline() == b"one\n"
        assert next(raw) == b"two\n"
        assert raw.readlines() == [b"three\n", b"four"]
        assert raw.tell() == 18
        raw.writelines([b"!", b"!"])
    assert file.read_bytes() == b"one\ntwo\nthree\nfour!!"


def test_what_was_read_does_not_change(file):
    """Bytes that were read stay as they are, whoever writes to the file afterwards."""
    with file.open("w+b", buffering=0) as writer, file.open("rb") as reader:
        writer.write(b"first")
        read = [reader.read(), file.read_bytes()]
        writer.seek(0)
        writer.write(b"other and more")
        assert read == [b"first", b"first"]
        assert reader.read() == b" and more"


def test_positions_are_independent(file):
    """Each open file has a position of its own, and readers see what writers flushed."""
    with file.open("wb", buffering=0) as writer, file.open("rb", buffering=0) as one, file.open("rb") as two:
        writer.write(b"abcdef")
        assert one.read(2) == b"ab"
        assert two.read(3) == b"abc"
        assert one.read() == b"cdef"
        writer.seek(0)
        writer.write(b"ABC")
        one.seek(0)
        assert one.readall() == b"ABCdef"


def test_what_is_not_flushed_is_not_seen(file):
    """As on the disk, a buffered write is seen by others once it is flushed."""
    with file.open("w") as writer:
        writer.write("text")
        assert file.read_text() == ""
        writer.flush()
        assert file.read_text() == "text"


def test_a_file_without_a_name_lives_until_it_is_closed(storage, file):
    """Unlinked but open, a file can be read and written, and counts until the last handle closes."""
    with file.open("w+b") as handle, file.open("rb") as other:
        handle.write(b"content")
        handle.flush()
        file.unlink()
        assert not file.exists()
        assert other.read() == b"content"
        handle.write(b"more")
        handle.flush()
        assert storage._volume.bytes == 11
        assert storage._volume.files == 1
    assert storage._volume.bytes == storage._volume.files == 0


def test_a_name_made_anew_is_another_file(file):
    """A handle stays with the file it opened, whatever its name means later."""
    file.write_bytes(b"old")
    with file.open("rb") as handle:
        file.unlink()
        file.write_bytes(b"new")
        assert handle.read() == b"old"


def test_writing_past_the_end_fills_with_zeros(file):
    """Seeking past the end and writing there leaves zeros between."""
    with file.open("w+b") as handle:
        handle.write(b"a")
        handle.seek(5)
        handle.write(b"b")
        handle.seek(0)
        assert handle.read() == b"a\0\0\0\0b"


def test_growing_by_truncate_takes_no_memory(file):
    """A file made longer by truncate reads as zeros and holds nothing, a terabyte of them too."""
    with file.open("w+b", buffering=0) as handle:
        handle.write(b"start")
        handle.truncate(1 << 40)
        assert file.stat().st_size == 1 << 40
        assert file.stat().st_blocks == 1
        handle.seek(1 << 39)
        assert handle.read(3) == b"\0\0\0"
        handle.truncate(7)
        handle.seek(0)
        assert handle.read() == b"start\0\0"
        assert file.read_bytes() == b"start\0\0"
        handle.truncate(2)
        assert file.read_bytes() == b"st"
        assert handle.tell() == 7


def test_data_and_holes_can_be_sought(file):
    """SEEK_DATA and SEEK_HOLE answer as a file system that knows no holes."""
    file.write_bytes(b"0123456789")
    with file.open("rb", buffering=0) as handle:
        assert handle.seek(3, os.SEEK_DATA) == 3
        assert handle.seek(3, os.SEEK_HOLE) == 10
        with pytest.raises(OSError, match="Errno") as error:
            handle.seek(10, os.SEEK_DATA)
        assert error.value.errno == errno.ENXIO


@pytest.mark.parametrize(("offset", "whence"), [(-1, 0), (-9, 1), (-9, 2), (0, 9)])
def test_an_impossible_position_is_refused(offset, whence, file):
    """Seeking before the start, or from nowhere, is EINVAL and moves nothing."""
    file.write_bytes(b"abc")
    with file.open("rb", buffering=0) as handle:
        handle.seek(1)
        with pytest.raises(OSError, match="Errno") as error:
            handle.seek(offset, whence)
        assert error.value.errno == errno.EINVAL
        assert handle.tell() == 1


def test_what_is_not_open_for_it_is_unsupported(file):
    """Reading what is open for writing only, writing what is open for reading, and what is closed."""
    with file.open("wb", buffering=0) as writer, file.open("rb", buffering=0) as reader:
        for wrong in (writer.readall, lambda: writer.read(1), lambda: writer.readinto(bytearray(1))):
            with pytest.raises(io.UnsupportedOperation, match="not open for reading"):
                wrong()
        for wrong in (lambda: reader.write(b"x"), lambda: reader.truncate(0)):
            with pytest.raises(io.UnsupportedOperation, match="not open for writing"):
                wrong()
        with pytest.raises(OSError, match="Errno") as error:
            writer.truncate(-1)
        assert error.value.errno == errno.EINVAL
        assert "mode='wb'" in repr(writer)
    writer.close()
    assert "closed" in repr(writer)
    for wrong in (
        writer.tell,
        writer.readable,
        writer.writable,
        writer.seekable,
        writer.fileno,
        lambda: writer.write(b""),
    ):
        with pytest.raises(ValueError, match="closed file"):
            wrong()


def test_a_write_without_content_changes_nothing(file):
    """Writing nothing past the end does not make the file longer."""
    with file.open("wb", buffering=0) as handle:
        handle.seek(10)
        assert handle.write(b"") == 0
    assert file.stat().st_size == 0


def test_more_than_memory_can_hold_is_an_error_and_counts_nothing(storage, file):
    """A write so far out that no memory suffices is ENOMEM; the file is as it was."""
    with file.open("wb", buffering=0) as handle:
        handle.write(b"abc")
        handle.seek(1 << 62)
        with pytest.raises(OSError, match="Errno") as error:
            handle.write(b"x")
        assert error.value.errno == errno.ENOMEM
    assert file.read_bytes() == b"abc"
    assert storage._volume.bytes == 3


def test_text_is_written_and_read_as_on_disk(file, tmp_path):
    """Encodings, error handlers and line endings give the same bytes and texts as on the disk."""
    other = tmp_path / "file"
    for text in ("plain", "ä\nö\r\nü\r", "\N{SNOWMAN}"):
        for options in (
            {},
            {"encoding": "utf-16"},
            {"encoding": "ascii", "errors": "replace"},
            {"newline": "\r\n"},
            {"encoding": "utf-8", "newline": ""},
            {"encoding": "locale"},
        ):
            assert file.write_text(text, **options) == other.write_text(text, **options)
            assert file.read_bytes() == other.read_bytes()
            reading = {name: value for name, value in options.items() if name != "newline"}
            assert file.read_text(**reading) == other.read_text(**reading)
    with file.open(newline="") as text, other.open(newline="") as expected:
        assert text.read() == expected.read()
    file.write_bytes(b"a\r\n")
    assert file.read_text(newline="") == "a\r\n"
    with file.open(newline="") as lines:
        assert lines.read() == "a\r\n"


def test_text_that_cannot_be_written_leaves_an_empty_file(file, tmp_path):
    """What the encoding cannot express raises, and leaves the file empty as on the disk."""
    for path in (file, tmp_path / "file"):
        path.write_text("before")
        with pytest.raises(UnicodeEncodeError):
            path.write_text("ä", encoding="ascii")
        assert path.read_bytes() == b""
    with pytest.raises(TypeError, match="data must be str, not bytes"):
        file.write_text(b"bytes")
    with pytest.raises(TypeError):
        file.write_bytes("text")


def test_anything_with_a_buffer_can_be_written(file):
    """write_bytes takes whatever has a buffer, and copies what could change later."""
    data = bytearray(b"abc")
    assert file.write_bytes(data) == 3
    data[0] = 0
    assert file.read_bytes() == b"abc"
    assert file.write_bytes(memoryview(b"abcd").cast("H")) == 4


def test_lines_are_iterated(file):
    """A text file is iterated line by line."""
    file.write_text("one\ntwo\n")
    with file.open() as lines:
        assert list(lines) == ["one\n", "two\n"]


def test_a_forgotten_file_warns_and_is_closed(storage, file):
    """A file that nobody closed warns like one on the disk, and is closed: what it wrote is there."""
    for buffering in (-1, 0):
        handle = file.open("wb", buffering)
        handle.write(b"content")
        held = [handle]
        del handle
        with pytest.warns(ResourceWarning, match="unclosed file"):
            held.clear()
        assert file.read_bytes() == b"content"
    file.unlink()
    assert storage._volume.bytes == 0


def test_a_forgotten_file_that_left_memory_is_counted_once(storage, file):
    """A stream that was forgotten while its file went to disk frees nothing a second time."""
    file.write_bytes(b"content")
    handle = file.open("rb", buffering=0)
    handle.node.handles = None
    storage._volume.release(handle.node)
    file._tree.root.entries.clear()
    handle.close()
    assert storage._volume.bytes == storage._volume.files == 0


def test_without_a_disk_there_is_no_descriptor(file):
    """Fileno without a place to spill to is io.UnsupportedOperation, UnsupportedError and OSError at once."""
    with file.open("rb") as handle:
        for kind in (UnsupportedError, io.UnsupportedOperation, OSError, ValueError):
            with pytest.raises(kind, match="spill_to"):
                handle.fileno()


def test_appending_threads_lose_nothing(file):
    """Of threads that append at once, each record is there, whole."""
    start = threading.Barrier(4)

    def append(letter: bytes) -> None:
        with file.open("ab", buffering=0) as handle:
            start.wait()
            for _ in range(200):
                handle.write(letter * 10)

    threads = [threading.Thread(target=append, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = file.read_bytes()
    records = [content[start : start + 10] for start in range(0, len(content), 10)]
    assert sorted(records) == sorted(letter * 10 for letter in (b"a", b"b", b"c", b"d") for _ in range(200))


def test_of_racing_exclusive_makers_one_wins(area):
    """Of threads that open one name exclusively, exactly one gets it."""
    start, won = threading.Barrier(8), []

    def make() -> None:
        start.wait()
        try:
            with (area.directory / "one").open("x"):
                won.append(1)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
