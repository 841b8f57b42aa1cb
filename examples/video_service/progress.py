"""
Show how far a job is: a bar on a terminal, plain text anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


__all__ = ["Progress", "printable", "progress_on", "silent"]

Progress: TypeAlias = Callable[[str, float], None]
"""Called as ``progress(step, fraction)``; a step begins with its first call and ends at 1.0."""

_QUARTERS = 4


def silent(_step: str, _fraction: float) -> None:
    """Show nothing."""


def printable(text: str | Path) -> str:
    """Return *text*, a file's name for one, without what would disturb a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


@contextmanager
def progress_on(stream: TextIO) -> Iterator[Progress]:
    """Yield the progress that suits *stream*, for one job."""
    if stream.isatty():
        with Bars(*_columns(), console=Console(file=stream)) as bars:
            yield _Bars(bars)
        return
    text = _PlainText(stream)
    try:
        yield text
    finally:
        text.end_line()


def _columns() -> tuple[ProgressColumn, ...]:
    name = TextColumn("  {task.description:<10}", markup=False)
    return name, BarColumn(), TaskProgressColumn(), TimeElapsedColumn()


class _Bars:
    """One bar a step."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, fraction: float) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=1.0)
        self._bars.update(self._tasks[step], completed=fraction)


class _PlainText:
    """One line a step, one word a quarter of it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._step = ""
        self._quarter = 0

    def __call__(self, step: str, fraction: float) -> None:
        if step != self._step:
            self.end_line()
            self._step, self._quarter = step, 0
            self._write(f"  {step}:")
        quarter = int(fraction * _QUARTERS)
        if quarter > self._quarter:
            self._quarter = quarter
            self._write(f" {100 * quarter // _QUARTERS} %")

    def end_line(self) -> None:
        if self._step:
            self._write("\n")
        self._step = ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
