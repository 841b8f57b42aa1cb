"""
Mask packet captures; then show that a careless stage harms neither the capture nor the result.

Run it as ``python examples/capture_masking/main.py [CAPTURE ...]``; ``--help`` tells the rest.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from bars import progress_on
from captures import make_capture
from masking import Pipeline, RunFailed
from stages import STAGES, Stage, careless
from tempscope import LocalDiskStorage, TempContainer, TempFileManager, TempscopeError, TempScopes
from tempscope.units import format_size


DONE, RUN_FAILED, WRONG_USE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Mask the captures that *arguments* name, and return the exit status."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # any file name can be shown
    options = _parser().parse_args(arguments)
    container = TempContainer()
    container.config.from_dict({"backend": options.backend, "label": "capture_masking"})
    try:
        return _run_all(container.scopes(), options)
    except (TempscopeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_USE
    finally:
        container.storage().close()


def _run_all(scopes: TempScopes, options: argparse.Namespace) -> int:
    output = options.output or _new_directory(Path("capture_masking_output"))
    output.mkdir(parents=True, exist_ok=True)
    # What stands for a user's files is on disk, wherever the runs' files live.
    with LocalDiskStorage() as disk, TempFileManager(storage=disk) as material:
        made = material.new_file(name="made capture.pcap")
        make_capture(made)
        pipeline = Pipeline(scopes, trusting=options.trust)
        succeeded = [_run(pipeline, capture, output) for capture in options.captures or [made]]
        if not options.no_failure:
            print("\nThe next run has a stage that writes into its input; it fails on purpose.")
            _run(Pipeline(scopes, [Stage("careless", careless), *STAGES]), made, output)
    print(f"\nOpen scopes: {len(scopes.active())}.")
    return DONE if all(succeeded) else RUN_FAILED


def _run(pipeline: Pipeline, capture: Path, output: Path) -> bool:
    """Run one capture through, tell how it went, and return whether it went well."""
    before = _digest(capture)
    product = output / f"masked-{capture.stem}.pcap"
    print(f"{capture.name}  {format_size(capture.stat().st_size)}")
    succeeded = False
    try:
        with progress_on(sys.stdout) as progress:
            result = pipeline.run(capture, product, progress)
    except RunFailed as error:
        print(f"  failed: {error}")
    else:
        size = format_size(product.stat().st_size)
        print(f"  came in by {result.staged}; published {result.packets} packets, {size}, to {product}")
        succeeded = True
    same = _digest(capture) == before
    print(f"  the capture is {'bit for bit what it was' if same else 'CHANGED'}")
    return succeeded


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _new_directory(path: Path) -> Path:
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Drop duplicates, mask addresses and trim payloads in packet captures.",
        epilog="Exit status: 0 all captures done, 1 one could not be masked, 2 wrong use.",
    )
    parser.add_argument(
        "captures", metavar="CAPTURE", nargs="*", type=Path, help="pcap or pcapng (default: one is made)"
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="where results go (default: a new directory here)"
    )
    parser.add_argument(
        "--backend",
        choices=["disk", "ram", "memory", "hardlink"],
        default="disk",
        help="where temporary files live (default: disk)",
    )
    parser.add_argument(
        "--trust", action="store_true", help="hand the stages the capture itself, by hard link, uncopied"
    )
    parser.add_argument("--no-failure", action="store_true", help="leave out the run that fails on purpose")
    return parser


if __name__ == "__main__":
    sys.exit(main())
