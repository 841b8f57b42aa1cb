"""Files in memory, met by what is not ours: C libraries, commands, data models, databases, archives."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import av
import pydantic
import pytest

from tempscope import LocalDiskStorage, MemoryStorage, TempFileManager, TempScopes, UnsupportedError


class Product(pydantic.BaseModel):
    """What a service answers with."""

    title: str
    file: Path


@pytest.fixture
def spilling(tmp_path: Path) -> Iterator[TempFileManager]:
    """A scope in memory that can move to disk."""
    with (
        LocalDiskStorage(tmp_path / "disk") as disk,
        MemoryStorage(spill_to=disk) as storage,
        TempScopes(storage).open("job") as manager,
    ):
        yield manager


@pytest.fixture
def staying() -> Iterator[TempFileManager]:
    """A scope in memory that cannot."""
    with MemoryStorage() as storage, TempScopes(storage).open("job") as manager:
        yield manager


def files_on(disk: Path) -> set[str]:
    """Return the names of the scopes' files that are really there: the back door."""
    return {path.name for path in disk.glob("tempscope-*/i-*/a*/**/*")}


def write_sound(target: Any) -> None:
    """Write a second of sound with FFmpeg's libraries."""
    with av.open(target, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=8000)
        frame.sample_rate = 8000
        frame.planes[0].update(bytes(16000))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def samples_in(source: Any) -> int:
    """Return how many samples of sound FFmpeg's libraries find."""
    with av.open(source) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


def by_open(path: Path) -> str:
    """Append by the built-in open."""
    with open(path, "a", encoding="utf-8") as file:
        file.write("more")
    return path.read_text()


def by_command(path: Path) -> str:
    """Have a command read it, whose argument it is."""
    code = "import sys; sys.stdout.write(open(sys.argv[1]).read() + 'more')"
    command = [sys.executable, "-c", code, path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def by_database(path: Path) -> str:
    """Use it as a database."""
    path.unlink()
    for statement in ("CREATE TABLE words (word TEXT)", "INSERT INTO words VALUES ('textmore')"):
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
    assert path.read_bytes().startswith(b"SQLite format 3")
    connection = sqlite3.connect(path)
    [[word]] = connection.execute("SELECT word FROM words")
    connection.close()
    return str(word)


def by_archive(path: Path) -> str:
    """Put it into an archive, and take it out."""
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.write(path, "inside")
        archive.writestr("more", "more")
    with zipfile.ZipFile(path.with_suffix(".zip")) as archive:
        return (archive.read("inside") + archive.read("more")).decode()


def by_shutil(path: Path) -> str:
    """Copy and compress it."""
    shutil.copy(path, path.with_name("copy"))
    with gzip.open(path.with_name("more.gz"), "wt") as file:
        file.write("more")
    with gzip.open(path.with_name("more.gz"), "rt") as file:
        return path.with_name("copy").read_text() + file.read()


def plainly(text: str) -> str:
    """Read a file by its text, as anybody would."""
    with open(text, encoding="utf-8") as file:
        return file.read()


USERS = [by_open, by_command, by_database, by_archive, by_shutil]


@pytest.mark.parametrize("use", USERS, ids=lambda use: use.__name__)
def test_who_asks_for_the_real_path_finds_the_file(
    use: Callable[[Path], str], spilling: TempFileManager, tmp_path: Path
) -> None:
    """What opens files by their text reads what was written in memory, and its writing is seen there."""
    path, other = spilling.new_file(".txt"), spilling.new_file(".txt")
    path.write_text("text")
    other.write_text("stays")
    assert files_on(tmp_path / "disk") == set()
    assert use(path) == "textmore"
    there = files_on(tmp_path / "disk")
    assert path.name in there
    assert other.name not in there
    assert other.read_text() == "stays"


@pytest.mark.parametrize("use", USERS, ids=lambda use: use.__name__)
def test_who_asks_for_the_real_path_in_vain_is_told(
    use: Callable[[Path], str], staying: TempFileManager
) -> None:
    """Without a place to spill to it is never a wrong file, but an error that says what to configure."""
    path = staying.new_file(".txt")
    with pytest.raises(UnsupportedError, match=r"spill_to=LocalDiskStorage\(\)"):
        use(path)


def test_ffmpeg_reads_and_writes_by_path(spilling: TempFileManager, tmp_path: Path) -> None:
    """FFmpeg's libraries, given a path in memory, write and read the real file, which the path then shows."""
    path = spilling.new_file(".wav")
    write_sound(path)
    assert samples_in(path) == 8000
    assert path.name in files_on(tmp_path / "disk")
    assert path.read_bytes().startswith(b"RIFF")
    assert path.stat().st_size > 16000


def test_ffmpeg_reads_and_writes_open_files(staying: TempFileManager) -> None:
    """Given open files, FFmpeg's libraries need no real path; given the path alone, they are refused."""
    path = staying.new_file(".wav")
    with pytest.raises(UnsupportedError, match="spill_to"):
        write_sound(path)
    with path.open("wb") as file:
        write_sound(file)
    with pytest.raises(UnsupportedError, match="spill_to"):
        samples_in(path)
    with path.open("rb") as file:
        assert samples_in(file) == 8000


def test_a_model_keeps_the_path_and_its_json_is_the_real_one(
    spilling: TempFileManager, tmp_path: Path
) -> None:
    """A pydantic model takes the path as it is; written as JSON it names a file that is really there."""
    path = spilling.new_file(".txt")
    path.write_text("content")
    product = Product(title="a", file=path)
    assert product.file is path
    assert product.model_dump() == {"title": "a", "file": path}
    assert product.model_copy(deep=True) == product
    assert files_on(tmp_path / "disk") == set()
    told = json.loads(product.model_dump_json())["file"]
    assert files_on(tmp_path / "disk") == {path.name}
    assert Path(told) == path
    assert plainly(told) == "content"
    path.write_text("later")
    assert plainly(told) == "later"
    assert Product.model_validate_json(product.model_dump_json()).file == path
    assert product.model_dump(mode="json")["file"] == told


def test_a_model_in_memory_alone_is_not_written(staying: TempFileManager) -> None:
    """Without a place to spill to, writing the model as JSON fails, and the reason says what to configure."""
    product = Product(title="a", file=staying.new_file(".txt"))
    for write in (product.model_dump_json, lambda: product.model_dump(mode="json")):
        with pytest.raises((UnsupportedError, ValueError), match=r"spill_to=LocalDiskStorage\(\)"):
            write()


def test_a_record_of_attrs_keeps_the_path(staying: TempFileManager) -> None:
    """attrs.asdict keeps the path in memory."""

    @attrs.frozen
    class Record:
        file: Path

    path = staying.new_file()
    assert attrs.asdict(Record(path))["file"] is path
