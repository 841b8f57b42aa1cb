"""
Cut videos into clips, and take subtitles and pictures from them; then show that nothing is left.

Run it as ``python examples/video_service/main.py [VIDEO ...]``; ``--help`` tells the rest.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from containers import LABEL, Application
from media import make_video
from progress import printable, progress_on
from services import JobFailed, JobResult, new_directory
from tempscope import (
    Capability,
    CleanupReport,
    LocalDiskStorage,
    TempFileManager,
    TempscopeError,
    Usage,
    check_container,
)
from tempscope.units import format_size


DONE, JOB_FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
_CUT_OFF_AFTER = 0.6


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the jobs that *arguments* ask for, and return the exit status."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # any file name can be shown
    options = _parser().parse_args(arguments)
    try:
        return _run(options, _application(options))
    except (TempscopeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print("interrupted; the temporary files are gone", file=sys.stderr)
        return INTERRUPTED


def _run(options: argparse.Namespace, application: Application) -> int:
    try:
        return _run_jobs(options, application)
    finally:
        application.temp.storage().close()


def _run_jobs(options: argparse.Namespace, application: Application) -> int:
    output = options.output or new_directory(Path(), "video_service_output")
    output.mkdir(parents=True, exist_ok=True)
    # What is made to work on is temporary too, but the program's and no job's; it stands for a
    # user's files, so it is on disk wherever the jobs' files live.
    with LocalDiskStorage() as disk, TempFileManager(storage=disk) as material:
        made = _made_video(material)
        failed = [video for video in options.videos or [made] if not _job(application, video, output)]
        if not options.no_failure:
            print("The next job fails on purpose: its video is cut off.\n")
            _job(application, _cut_off(made, material), output)
    _show_what_is_left(application)
    return JOB_FAILED if failed else DONE


def _job(application: Application, video: Path, output: Path) -> bool:
    """Run one job, tell how it went, and return whether it went well."""
    print(printable(video.name))
    try:
        with progress_on(sys.stdout) as progress:
            result = application.video_service().process(video, output, progress)
    except JobFailed as error:
        _show_failure(application, error)
        return False
    _show_result(result)
    return True


def _show_result(result: JobResult) -> None:
    print(f"  used {_words(result.usage)}; the video came in by {result.staged}")
    print(f"  published {len(result.products)} files to {printable(result.directory)}:")
    for name in result.products:
        print(f"    {name}  {format_size((result.directory / name).stat().st_size)}")
    _show_removal(result.report)


def _show_failure(application: Application, error: JobFailed) -> None:
    print(f"  failed: {error}")
    print(f"  used {_words(error.usage)}")
    if error.report.directory is None:
        _show_removal(error.report)
        return
    persists = Capability.CRASH_SWEEP in application.temp.storage().capabilities
    _show_evidence(error.report, persists=persists)


def _show_removal(report: CleanupReport) -> None:
    print(f"  closed: {report.removed} temporary files and directories removed")
    for entry in report.leftovers:
        print(f"  left behind: {entry.path}, because {entry.reason}")
    print()


def _show_evidence(report: CleanupReport, *, persists: bool) -> None:
    assert report.directory is not None
    # Not str(report.directory): that would move a directory in memory to disk.
    directory = report.to_dict()["directory"]
    print(f"  kept whole, because {report.verdict.reason if report.verdict else 'the policy says so'}:")
    print(f"    {printable(directory)}")
    for path in sorted(report.directory.iterdir(), key=lambda path: path.name):
        if not path.name.startswith("."):  # what the storage noted about the scope
            print(f"      {path.name}  {format_size(path.stat().st_size)}")
    if persists:
        print(f"  a sweep removes it then; to remove it now: rm -r {shlex.quote(directory)}\n")
    else:
        print("  it is in memory, and gone when this program ends\n")


def _show_what_is_left(application: Application) -> None:
    ours = [record for record in application.temp.storage().areas() if record.label == LABEL]
    mine = [record for record in ours if record.owner is None or record.owner.pid == os.getpid()]
    kept = [record for record in mine if record.state == "retained"]
    print(f"Open scopes: {len(application.temp.scopes().active())}.")
    print(f"Scopes with files left: {len(mine) - len(kept)}, besides {len(kept)} kept on purpose.")


def _words(usage: Usage) -> str:
    return f"{usage.files} files, {usage.directories} directories, {format_size(usage.bytes)}"


def _made_video(material: TempFileManager) -> Path:
    path = material.new_file(name="made video.mkv")
    with path.open("wb") as file:
        make_video(file)
    return path


def _cut_off(video: Path, material: TempFileManager) -> Path:
    path = material.new_file(name="cut-off video.mkv")
    content = video.read_bytes()
    path.write_bytes(content[: int(len(content) * _CUT_OFF_AFTER)])
    return path


def _application(options: argparse.Namespace) -> Application:
    application = Application()
    application.config.from_dict(
        {
            "clip_seconds": options.clip_seconds,
            "thumbnails": options.thumbnails,
            "temp": {"backend": options.backend},
        }
    )
    check_container(application)
    return application


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Cut videos into clips, and take subtitles and pictures from them.",
        epilog="Exit status: 0 all jobs done, 1 a given video could not be worked on, 2 wrong use.",
    )
    parser.add_argument(
        "videos", metavar="VIDEO", nargs="*", type=_video, help="a video file (default: one is made)"
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="where results go (default: a new ./video_service_output)"
    )
    parser.add_argument(
        "--clip-seconds", metavar="N", type=_seconds, default=5.0, help="shortest clip (default: 5)"
    )
    parser.add_argument("--thumbnails", metavar="N", type=_count, default=3, help="how many (default: 3)")
    parser.add_argument(
        "--backend",
        choices=["disk", "ram", "memory", "hardlink"],
        default="disk",
        help="where temporary files live (default: disk)",
    )
    parser.add_argument("--no-failure", action="store_true", help="leave out the job that fails on purpose")
    return parser


def _video(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no file {printable(text)!r}")
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{printable(text)!r} is not a file")
    if not os.access(path, os.R_OK):
        raise argparse.ArgumentTypeError(f"{printable(text)!r} may not be read")
    return path


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return seconds


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 1000")
    return count


if __name__ == "__main__":
    sys.exit(main())
