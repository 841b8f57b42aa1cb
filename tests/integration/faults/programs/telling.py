"""
What the programs that are killed and failed have in common: how they tell what was reported to them.

They tell by ``writev(2)`` on standard output, a call that the library does not make: a fault that
goes on for ever in ``write(2)`` does not silence them.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any


# A shell that starts a test in the background has it, and its children, ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)


def mark(word: str) -> None:
    """Make a system call that a trace shows and nothing else makes."""
    try:
        os.stat(f"/@@{word}")
    except OSError:
        pass


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Give *error* and what is underneath it; one that is its own cause would be told for ever."""
    for _ in range(20):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


class Told(logging.Handler):
    """All that a program was told: raised, logged as a warning, counted in a report, noted."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.raised: list[str] = []
        self.warned: list[str] = []
        self.counted: list[str] = []
        self.noted: list[str] = []
        self.lost: list[str] = []
        logging.getLogger("tempscope").addHandler(self)
        sys.unraisablehook = lambda what: self.lost.append(
            f"{type(what.exc_value).__name__} in {what.object!r}"
        )

    def emit(self, record: logging.LogRecord) -> None:
        fields = {key[10:]: value for key, value in vars(record).items() if key.startswith("tempscope_")}
        known = {key: fields[key] for key in ("reason", "errno", "error") if key in fields}
        self.warned.append(f"{record.getMessage()} {known or ''}".strip())

    def report(self, report: Any) -> None:
        """Take what a report counts as left behind."""
        if report is not None:
            self.counted += [f"{entry.kind}: {entry.reason}" for entry in report.leftovers]

    def notes(self, error: BaseException) -> None:
        """Take what was noted on *error*."""
        self.noted += getattr(error, "__notes__", ())

    def run(self, program: Callable[[Told], None]) -> None:
        """Run *program*, and take what it raises."""
        try:
            program(self)
        except BaseException as error:
            self.raised.append(" < ".join(f"{type(each).__name__}: {each}" for each in chain(error)))
            self.notes(error)

    def tell(self) -> None:
        """Write it all down, past every fault."""
        words = ("raised", "warned", "counted", "noted", "lost")
        os.writev(1, [json.dumps({word: getattr(self, word) for word in words}).encode()])
