"""
Transcribe recordings from a server on this machine, and stop some in the middle; nothing is left of those.

Run it as ``python examples/transcription/main.py [--output DIR]``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from pipeline import Application
from recording import RecordingError
from server import Recordings, serving


async def run(application: Application, server: Recordings, output: Path) -> int:
    """Run four jobs at once: one ends well, one is cancelled, one takes too long, one is cut off."""
    transcriber = application.transcriber()

    async def job(path: str, seconds: float | None = None) -> str:
        try:
            transcript = await transcriber.transcribe(
                f"{server.url}/{path}", output / f"{path}.srt", seconds=seconds
            )
        except TimeoutError:
            return "took too long"
        except RecordingError as error:
            return f"failed: {error}"
        return f"{transcript.parts} parts with words, published to {transcript.path}"

    cancelled = asyncio.create_task(job("stalling"))
    others = map(asyncio.create_task, [job("talk"), job("stalling", 1.0), job("cut-off")])
    await asyncio.to_thread(server.stalled.wait)
    cancelled.cancel()
    for name, answer in zip(
        ("cancelled", "talk", "stalling", "cut-off"),
        await asyncio.gather(cancelled, *others, return_exceptions=True),
        strict=True,
    ):
        print(f"{name}: {answer if isinstance(answer, str) else type(answer).__name__}")
    return show_what_is_left(application)


def show_what_is_left(application: Application) -> int:
    """Tell which scopes are left; return 1 if one of them was not kept on purpose."""
    print(f"Open scopes: {len(application.temp.scopes().active())}.")
    records = [each for each in application.temp.storage().areas() if each.label == "transcription"]
    for record in records:
        reason = record.verdict.reason if record.verdict else "nobody closed it"
        print(f"Left: {record.directory}, because {reason}")
    return int(any(record.state != "retained" for record in records))


def main() -> int:
    """Serve, transcribe, and return the exit status."""
    parser = argparse.ArgumentParser(description="Transcribe recordings from a server on this machine.")
    parser.add_argument(
        "--output", type=Path, help="where transcripts go (default: a directory that goes at the end)"
    )
    options = parser.parse_args()
    application = Application()
    with serving() as server, tempfile.TemporaryDirectory() as directory:
        output = options.output or Path(directory)
        output.mkdir(parents=True, exist_ok=True)
        status = asyncio.run(run(application, server, output))
    if options.output is None:
        print("The transcript was in a temporary directory, which is gone: --output DIR keeps it.")
    application.temp.storage().close()
    return status


if __name__ == "__main__":
    sys.exit(main())
