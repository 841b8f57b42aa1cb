"""
Show how far a run is: a bar on a terminal, a word a step anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from masking import Progress


__all__ = ["progress_on"]


@contextmanager
def progress_on(stream: TextIO) -> Iterator[Progress]:
    """Yield the progress that suits *stream*, for one run."""
    if stream.isatty():
        name = TextColumn("  {task.description:<8}", markup=False)
        columns = (name, BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Bars(*columns, console=Console(file=stream)) as bars:
            yield _shown_by(bars)
        return
    steps: list[str] = []

    def plain(step: str, _fraction: float) -> None:
        if step not in steps:
            steps.append(step)

    try:
        yield plain
    finally:
        if steps:
            stream.write(f"  steps: {', '.join(steps)}\n")


def _shown_by(bars: Bars) -> Progress:
    tasks: dict[str, TaskID] = {}

    def show(step: str, fraction: float) -> None:
        if step not in tasks:
            tasks[step] = bars.add_task(step, total=1.0)
        bars.update(tasks[step], completed=fraction)

    return show
