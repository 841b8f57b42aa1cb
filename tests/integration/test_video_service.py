"""
The video service: the same services on disk and, by one override, in memory; real media throughout.
"""

from __future__ import annotations

import importlib
import io
import os
import shlex
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import attrs
import pytest

from tempscope import HardlinkStorage, LocalDiskStorage, MemoryStorage, check_container


if TYPE_CHECKING:
    from collections.abc import Iterator

av = pytest.importorskip("av", reason="PyAV is not installed (extra: examples)")
Disposition = pytest.importorskip("av.stream").Disposition
pytest.importorskip("rich", reason="rich is not installed (extra: examples)")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "video_service"
MODULES = [path.stem for path in EXAMPLE.glob("*.py")]


def load_example() -> SimpleNamespace:
    """Import the example's modules as its main program does, and leave no trace of that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        for name in MODULES:
            patch.delitem(sys.modules, name, raising=False)
        modules = {name: importlib.import_module(name) for name in MODULES}
    for name in MODULES:
        sys.modules.pop(name, None)
    return SimpleNamespace(**modules)


example = load_example()
RECIPE = example.media.Recipe(seconds=4, width=160, height=96)
SECONDS_A_CLIP = 1.5


def video_bytes(**changes: object) -> bytes:
    """Return a real video as the test wants it."""
    file = io.BytesIO()
    example.media.make_video(file, attrs.evolve(RECIPE, **changes))
    return file.getvalue()


@pytest.fixture(scope="module")
def whole() -> bytes:
    """A whole video, with sound and two tracks of subtitles."""
    return video_bytes()


@pytest.fixture
def video(whole: bytes, tmp_path: Path) -> Path:
    """The whole video as the user's file."""
    path = tmp_path / "talk.mkv"
    path.write_bytes(whole)
    return path


@pytest.fixture
def cut_off(tmp_path: Path) -> Path:
    """A video that was cut off in the middle."""
    path = tmp_path / "cut off.mkv"
    content = video_bytes(seconds=6)
    path.write_bytes(content[: len(content) * 6 // 10])
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where results go; not there yet."""
    return tmp_path / "results"


STORAGES = {
    "disk": LocalDiskStorage,
    "hardlink": HardlinkStorage,
    # Without a place to move files to, it raises if anything asks one for its text.
    "memory": lambda _base: MemoryStorage(),
}


@pytest.fixture(params=STORAGES)
def application(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """The application, whose only change is the storage that it is given."""
    application = example.containers.Application()
    application.config.clip_seconds.from_value(SECONDS_A_CLIP)
    storage = STORAGES[request.param](tmp_path / "base")
    with application.temp.storage.override(storage):
        yield application
    storage.close()


def left(application: SimpleNamespace) -> list:
    """Return the records of all that the application's storage still has."""
    return list(application.temp.storage().areas())


def frames_of(path: Path) -> list[float]:
    """Return the times of all pictures in *path*, decoded."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def sound_of(path: Path) -> int:
    """Return how many samples of sound *path* has, decoded."""
    with av.open(str(path)) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


def test_the_application_container_is_sound() -> None:
    """The application's container passes the start-up check: nothing outlives the scope it works in."""
    check_container(example.containers.Application())


def test_a_job_makes_clips_subtitles_and_thumbnails(
    application: SimpleNamespace, video: Path, output: Path
) -> None:
    """One job publishes all that it made, and nothing of its scope is left, on every storage."""
    result = application.video_service().process(video, output)
    assert result.directory == output / "talk"
    assert result.products == (
        "clip-001.mkv",
        "clip-002.mkv",
        "subtitles-1.eng.srt",
        "subtitles-2.deu.srt",
        "thumbnail-1.jpg",
        "thumbnail-2.jpg",
        "thumbnail-3.jpg",
    )
    assert sorted(path.name for path in result.directory.iterdir()) == sorted(result.products)
    assert result.usage.files == 1 + len(result.products)
    assert left(application) == []
    assert application.temp.scopes().active() == []


def test_clips_have_every_picture_and_start_at_zero(
    application: SimpleNamespace, video: Path, output: Path
) -> None:
    """The clips together have every picture and the sound of the video; each counts from its own start."""
    directory = application.video_service().process(video, output).directory
    clips = sorted(directory.glob("clip-*"))
    times = [frames_of(clip) for clip in clips]
    assert [len(part) for part in times] == [2 * RECIPE.rate, 2 * RECIPE.rate]
    assert all(part[0] == pytest.approx(0.0, abs=0.05) for part in times)
    assert all(part[-1] < 2.05 for part in times)
    # As long as the pictures, but for a frame of sound or two.
    assert [sound_of(clip) for clip in clips] == [pytest.approx(2 * RECIPE.sample_rate, abs=2 * 1024)] * 2
    assert sum(sound_of(clip) for clip in clips) == pytest.approx(sound_of(video), abs=2 * 1024)


def test_subtitles_are_subrip(application: SimpleNamespace, video: Path, output: Path) -> None:
    """Each track of text becomes a SubRip file, with its times, its lines and its markup."""
    directory = application.video_service().process(video, output).directory
    assert (directory / "subtitles-2.deu.srt").read_text(encoding="utf-8") == (
        "1\n00:00:00,000 --> 00:00:01,500\ndeu: second 0\n<i>größer als null</i>\n\n"
        "2\n00:00:02,000 --> 00:00:03,500\ndeu: second 2\n<i>größer als null</i>\n\n"
    )


def test_thumbnails_are_jpeg_pictures(application: SimpleNamespace, video: Path, output: Path) -> None:
    """Each thumbnail is a JPEG file of the wanted width and the video's shape; no two show the same."""
    directory = application.video_service().process(video, output).directory
    pictures = sorted(directory.glob("thumbnail-*.jpg"))
    for picture in pictures:
        with av.open(str(picture)) as container:
            (frame,) = container.decode(video=0)
            assert (frame.width, frame.height) == (320, 192)
    assert len({picture.read_bytes() for picture in pictures}) == 3


def test_disk_and_memory_give_the_same(whole: bytes, tmp_path: Path) -> None:
    """What is published does not depend on where the temporary files lived."""
    source = tmp_path / "talk.mkv"
    source.write_bytes(whole)
    published = []
    for name, storage in (("disk", LocalDiskStorage(tmp_path / "base")), ("memory", MemoryStorage())):
        application = example.containers.Application()
        with application.temp.storage.override(storage):
            result = application.video_service().process(source, tmp_path / name)
        published.append({product: (result.directory / product).read_bytes() for product in result.products})
        storage.close()
    on_disk, in_memory = published
    assert on_disk.keys() == in_memory.keys()
    # A Matroska file begins with a random number of its own, so clips are alike in length only.
    assert {n: len(b) for n, b in on_disk.items()} == {n: len(b) for n, b in in_memory.items()}
    assert {n: b for n, b in on_disk.items() if not n.startswith("clip")} == {
        n: b for n, b in in_memory.items() if not n.startswith("clip")
    }


def test_nothing_is_moved_to_disk_in_memory(video: Path, cut_off: Path, output: Path, tmp_path: Path) -> None:
    """In memory a job moves nothing to disk, even where the storage has a place for that."""
    place = tmp_path / "spill"
    application = example.containers.Application()
    storage = MemoryStorage(spill_to=LocalDiskStorage(place))
    with application.temp.storage.override(storage):
        application.video_service().process(video, output)
        with pytest.raises(example.services.JobFailed):
            application.video_service().process(cut_off, output)
        assert not list(place.rglob("*"))
    storage.close()


def test_a_failed_job_is_kept_whole(application: SimpleNamespace, cut_off: Path, output: Path) -> None:
    """A job on a truncated video fails, publishes nothing, and its scope is kept with all its files."""
    truncated = r"it is truncated: it ends after 3\.\d of 6\.\d"
    with pytest.raises(example.services.JobFailed, match=truncated) as failed:
        application.video_service().process(cut_off, output)
    report = failed.value.report
    assert not output.exists()
    assert report.outcome.kind == "failed"
    assert isinstance(report.outcome.exception, example.video.VideoError)
    assert sorted(path.name for path in report.directory.iterdir() if not path.name.startswith(".")) == [
        "clip-001.mkv",
        "clip-002.mkv",
        "source.mkv",
    ]
    assert (report.directory / "source.mkv").read_bytes() == cut_off.read_bytes()
    assert [record.state for record in left(application)] == ["retained"]
    assert cut_off.exists()


def test_a_cancelled_job_leaves_nothing(application: SimpleNamespace, video: Path, output: Path) -> None:
    """A job that is interrupted is no failure: nothing of it is kept, and nothing is published."""

    def interrupt(step: str, fraction: float) -> None:
        if step == "subtitles" and fraction > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        application.video_service().process(video, output, interrupt)
    assert left(application) == []
    assert not output.exists()


def test_a_job_works_on_a_file_of_its_own(application: SimpleNamespace, video: Path, output: Path) -> None:
    """Once a job is at work, the user's file may be moved away."""

    def move_away(_step: str, _fraction: float) -> None:
        if video.exists():
            video.rename(video.with_name("moved.mkv"))

    result = application.video_service().process(video, output, move_away)
    assert len(result.products) == 7
    assert video.with_name("moved.mkv").stat().st_nlink == 1


def test_jobs_at_once_do_not_meet(application: SimpleNamespace, video: Path, output: Path) -> None:
    """Jobs on several threads have a scope each, though their files have the same names."""
    together = threading.Barrier(4, timeout=60)
    service = application.video_service()

    def meet(_step: str, fraction: float) -> None:
        if fraction == 1.0:
            together.wait()

    def job(_: int) -> object:
        return service.process(video, output, meet)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(job, range(4)))
    assert sorted(result.directory.name for result in results) == ["talk", "talk-2", "talk-3", "talk-4"]
    assert {result.products for result in results} == {results[0].products}
    assert left(application) == []


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"sample_rate": 0}, {"clip", "subtitles", "thumbnail"}),
        ({"languages": ()}, {"clip", "thumbnail"}),
        ({"sample_rate": 0, "languages": ()}, {"clip", "thumbnail"}),
        ({"seconds": 1, "languages": ()}, {"clip", "thumbnail"}),
    ],
    ids=["no sound", "no subtitles", "neither", "shorter than a clip"],
)
def test_a_video_may_lack_things(
    changes: dict[str, object], kinds: set[str], tmp_path: Path, output: Path
) -> None:
    """A video without sound, without subtitles, or shorter than a clip is a video."""
    video = tmp_path / "bare.mkv"
    video.write_bytes(video_bytes(**changes))
    result = example.containers.Application().video_service().process(video, output)
    assert {product.partition("-")[0] for product in result.products} == kinds


def test_a_language_is_no_path(tmp_path: Path, output: Path) -> None:
    """The language that a file claims for its subtitles never becomes part of a name unless it is one."""
    video = tmp_path / "odd.mkv"
    video.write_bytes(video_bytes(languages=("../../../etc", "x", "fra")))
    result = example.containers.Application().video_service().process(video, output)
    assert [name for name in result.products if name.endswith("srt")] == [
        "subtitles-1.srt",
        "subtitles-2.srt",
        "subtitles-3.fra.srt",
    ]


def test_text_in_a_file_may_be_of_any_coding(tmp_path: Path, output: Path) -> None:
    """What a file says of itself in another coding than UTF-8 is no reason to refuse it."""
    video = tmp_path / "old.mkv"
    content = video_bytes(languages=("qqq",))
    assert content.count(b"qqq") > 1
    video.write_bytes(content.replace(b"qqq", b"q\xe9q"))
    result = example.containers.Application().video_service().process(video, output)
    assert "subtitles-1.srt" in result.products


def sound_only() -> bytes:
    """Return a sound file."""
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.rate = 8000
        frame.planes[0].update(bytes(1600))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def sound_with_a_cover() -> bytes:
    """Return a sound file with a picture for its cover, which FFmpeg takes for a track of pictures."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        container.start_encoding()
        picture = av.VideoFrame(16, 16, "yuvj420p")
        picture.pts = 0
        samples = av.AudioFrame(format="s16", layout="mono", samples=8000)
        samples.rate = 8000
        samples.planes[0].update(bytes(16_000))
        for stream, frame in ((cover, picture), (cover, None), (sound, samples), (sound, None)):
            container.mux(stream.encode(frame))
    return file.getvalue()


def pictures(container_format: str, codec: str) -> bytes:
    """Return a second of pictures, encoded by *codec*."""
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(24):
            container.mux(stream.encode(example.media._picture(number, RECIPE)))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "it is empty"),
        (lambda: b"just some words\n" * 100, "FFmpeg cannot work on it"),
        (sound_only, "it has no moving pictures"),
        (sound_with_a_cover, "it has no moving pictures"),
        # What an encoder gives, in no container; and a container that does not say how long it is.
        (lambda: pictures("h264", "libx264"), "its packets carry no times"),
        (lambda: pictures("avi", "mpeg4")[:5_800], "it is truncated"),
        (lambda: b"1\n00:00:00,500 --> 00:00:02,000\nwords\n\n" * 9, "it has no moving pictures"),
    ],
    ids=["empty", "text", "sound", "cover", "no container", "truncated", "subtitles"],
)
def test_what_is_no_video_fails_with_a_reason(
    application: SimpleNamespace, content: object, message: str, tmp_path: Path, output: Path
) -> None:
    """A file that is no video fails its job, with a message that says why."""
    path = tmp_path / "holiday.mp4"
    path.write_bytes(content())
    with pytest.raises(example.services.JobFailed, match=message):
        application.video_service().process(path, output)
    assert not output.exists()


def test_the_made_video_is_always_the_same(whole: bytes) -> None:
    """The same recipe gives the same bytes, so that what tests see can be relied on."""
    assert video_bytes() == whole


def run(*arguments: object) -> int:
    """Run the main program as a shell would, and return its exit status."""
    try:
        return example.main.main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        return stopped.code


def test_main_makes_a_video_if_none_is_given(
    own_base_dir: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without arguments a video is made; results go to a new directory each time, which is named."""
    assert run("--no-failure") == 0
    assert run("--no-failure") == 0
    said = capsys.readouterr().out
    for directory in ("video_service_output", "video_service_output-2"):
        assert f"published 8 files to {directory}/made video:" in said
        assert len(list((here / directory / "made video").iterdir())) == 8
    assert "  clips: " in said
    assert "Open scopes: 0.\nScopes with files left: 0, besides 0 kept on purpose." in said
    assert "\x1b" not in said
    assert not list(own_base_dir.glob("*/?-*"))


def test_main_shows_where_a_failed_job_is_kept(
    own_base_dir: Path, video: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job that fails on purpose is kept; where, why, how long, and how to remove it is said."""
    assert run(video, "--output", output) == 0
    said = capsys.readouterr().out
    (kept,) = own_base_dir.glob("*/k-*")
    assert "failed: it is truncated" in said
    assert "kept whole, because" in said
    assert " 7d" in said
    command = next(line for line in said.splitlines() if "rm -r" in line).partition("rm -r ")[2]
    (directory,) = shlex.split(command)
    assert kept in [Path(directory), *Path(directory).parents]
    assert (Path(directory) / "source.mkv").exists()
    assert "Scopes with files left: 0, besides 1 kept on purpose." in said


@pytest.mark.parametrize("backend", ["disk", "memory", "hardlink"])
def test_main_takes_any_backend(
    backend: str, own_base_dir: Path, video: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where temporary files live is one word; the results are the same."""
    assert run(video, "--backend", backend, "--output", output, "--no-failure") == 0
    assert "Scopes with files left: 0, besides 0 kept on purpose." in capsys.readouterr().out
    assert not list(own_base_dir.glob("*/?-*"))
    assert len(list((output / "talk").iterdir())) == 6


def test_main_in_memory_keeps_the_evidence_in_memory(
    own_base_dir: Path, video: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In memory a failed job's scope is shown without moving it to disk."""
    assert run(video, "--backend", "memory", "--output", output) == 0
    said = capsys.readouterr().out
    assert "source.mkv" in said
    assert "it is in memory, and gone when this program ends" in said
    assert not list(own_base_dir.glob("*/k-*"))


def test_main_goes_on_after_a_file_that_is_no_video(
    own_base_dir: Path, video: Path, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is no video fails its own job only, and makes the exit status 1."""
    words = tmp_path / "words.mp4"
    words.write_text("no video at all\n")
    assert run(words, video, "--output", output, "--no-failure") == 1
    said = capsys.readouterr().out
    assert "failed: FFmpeg cannot work on it" in said
    assert "published 6 files" in said
    assert len(list(own_base_dir.glob("*/k-*"))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.mp4"], "there is no file 'missing.mp4'"),
        (["."], "'.' is not a file"),
        (["--clip-seconds", "0"], "0 is no number of seconds above 0"),
        (["--clip-seconds", "nan"], "nan is no number of seconds above 0"),
        (["--clip-seconds", "long"], "invalid"),
        (["--thumbnails", "0"], "0 is not from 1 to 1000"),
        (["--backend", "cloud"], "invalid choice"),
        (["--output", "taken"], "taken"),
    ],
)
def test_main_refuses_wrong_use(
    arguments: list[str],
    message: str,
    own_base_dir: Path,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wrong use gives status 2 and says what is wrong, before anything is made."""
    (here / "taken").write_text("a file")
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["taken"]
    assert not list(own_base_dir.iterdir())


def test_main_says_so_when_the_base_directory_is_no_directory(
    video: Path, output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A base directory that cannot be one gives status 2 and one line, no traceback."""
    monkeypatch.setenv("TEMPSCOPE_BASE_DIR", str(video))
    assert run(video, "--output", output) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert str(video) in said
    assert said.count("\n") == 1


ODD_NAMES = [
    "two words.mkv",
    "a\nb\x1b[31m.mkv",
    "$(touch x); ls.mkv",
    "-rf.mkv",
    "größe 第二.mkv",
    ".mkv",
    "no suffix",
    "odd.m\tkv",
    "[bold]x.m k v",
    os.fsdecode(b"caf\xe9.mkv"),
    "x" * 250 + ".mkv",
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name)[:20])
def test_main_takes_odd_file_names(
    name: str, own_base_dir: Path, video: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file may be called what the file system allows; what is shown of its name disturbs no terminal."""
    path = video.rename(video.with_name(name))
    assert run("--output", output, "--no-failure", path) == 0
    (directory,) = output.iterdir()
    assert directory.name == path.stem
    assert len(list(directory.iterdir())) == 6
    assert "\x1b" not in capsys.readouterr().out
    assert not list(own_base_dir.glob("*/?-*"))


def test_main_interrupted_leaves_nothing(
    own_base_dir: Path,
    video: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C gives status 130, and no temporary file is left."""

    class Interrupting(io.StringIO):
        def write(self, text: str) -> int:
            if "thumbnails" in text:
                raise KeyboardInterrupt
            return super().write(text)

        def reconfigure(self, **_: str) -> None:
            """Any text can be written to it anyway."""

    monkeypatch.setattr(sys, "stdout", Interrupting())
    assert run(video, "--output", output) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not list(own_base_dir.glob("*/?-*"))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal each step has a bar, and a name in it is shown as it is."""
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with example.progress.progress_on(stream) as progress:
        progress("[b]clips", 0.0)
        progress("[b]clips", 1.0)
    assert "━" in stream.getvalue()
    assert "[b]clips" in stream.getvalue()
    assert "100%" in stream.getvalue()


def test_progress_elsewhere_is_plain_text() -> None:
    """Elsewhere each step has one line, also a step that was broken off."""
    stream = io.StringIO()
    with example.progress.progress_on(stream) as progress:
        for done in range(101):
            progress("clips", done / 100)
        progress("subtitles", 0.0)
        progress("subtitles", 0.6)
    assert stream.getvalue() == "  clips: 25 % 50 % 75 % 100 %\n  subtitles: 50 %\n"


def test_the_commands_of_the_readme_are_right() -> None:
    """What the example's README tells to type is understood by the program."""
    lines = (EXAMPLE / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line.partition("#")[0][2:].split() for line in lines if line.startswith("$ ")]
    assert len(commands) == 3
    parser = example.main._parser()
    for argument in parser._actions:
        if argument.dest == "videos":
            argument.type = Path  # there is no talk.mp4 here
    for _python, script, *arguments in commands:
        assert (EXAMPLE.parent.parent / script).samefile(EXAMPLE / "main.py")
        parser.parse_args(arguments)
