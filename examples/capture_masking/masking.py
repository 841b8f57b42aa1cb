"""
The pipeline: takes a capture in, sends it through the stages, publishes what the last one wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import attrs

from captures import CaptureError
from stages import STAGES, Stage
from tempscope import StagedFile, StagedSourceChangedError, TempFileManager, TempScopes


__all__ = ["Pipeline", "Progress", "Result", "RunFailed", "quiet"]

Progress: TypeAlias = Callable[[str, float], None]
"""Called as ``progress(step, fraction)``; a step begins with its first call and ends at 1.0."""


def quiet(_step: str, _fraction: float) -> None:
    """Show nothing."""


class RunFailed(Exception):
    """A run that published nothing; its message says at which stage, and why."""


@attrs.frozen
class Result:
    """What a run gave: where the product is, how many packets it has, how the capture came in."""

    product: Path
    packets: int
    staged: str


class Pipeline:
    """
    Runs captures through stages; each run is a scope of its own, and leaves nothing but its product.

    Lives as long as the program, and may be shared by threads.

    Args:
        scopes: Opens a scope for each run.

        stages: What is done, in this order.

        trusting: Whether the capture itself may be handed to the first stage: by hard link where the
            storage can, at no cost, and with a write noticed only when it has happened.  Otherwise the
            first stage gets a reflink or a copy, and can do no harm.
    """

    def __init__(
        self, scopes: TempScopes, stages: Sequence[Stage] = STAGES, *, trusting: bool = False
    ) -> None:
        self._scopes = scopes
        self._stages = stages
        self._trusting = trusting

    def run(self, capture: Path, product: Path, progress: Progress = quiet) -> Result:
        """
        Mask *capture* and put the result at *product*, whole or not at all.

        Raises:
            RunFailed: If a stage failed or wrote into its input; nothing is published.

            TempscopeError: If the capture cannot be staged, or the product not published.
        """
        with self._scopes.open(capture.name) as manager:
            staged = manager.stage(
                capture,
                name="input.pcap",
                writable=not self._trusting,
                progress=lambda done, total: progress("stage", done / max(total, 1)),
            )
            here, packets = staged.path, 0
            for number, stage in enumerate(self._stages, 1):
                here, packets = self._run_one(manager, number, stage, here, staged, progress)
            manager.publish(here, product)
        return Result(product, packets, staged.method)

    def _run_one(
        self,
        manager: TempFileManager,
        number: int,
        stage: Stage,
        here: Path,
        staged: StagedFile,
        progress: Progress,
    ) -> tuple[Path, int]:
        called = f"stage {number} ({stage.name})"
        there = manager.new_file(name=f"stage_{number}_{stage.name}.pcap")
        before = _state(here)
        try:
            packets = stage.run(here, there, lambda fraction: progress(stage.name, fraction))
        except CaptureError as error:
            raise RunFailed(f"{called} failed: {error}") from error
        try:
            # For a capture that was linked: what is written to that is written to the user's own.
            staged.verify()
        except StagedSourceChangedError as error:
            raise RunFailed(f"{called} wrote into the capture itself: {error}") from error
        if _state(here) != before:
            raise RunFailed(f"{called} wrote into its input, {here.name}, which only others may do")
        return there, packets


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
