"""
A sweep, over what is under a root; run as ``job.py`` is.

It sweeps twice, the first time where there is nothing: that imports what is imported late.
"""

from __future__ import annotations

import json
import sys


ARGUMENTS = json.loads(sys.argv[1])
sys.path[:0] = ARGUMENTS["path"]

from telling import Told, mark  # noqa: E402

from tempscope.janitor import sweep  # noqa: E402
from tempscope.storages import LocalDiskStorage  # noqa: E402


def sweeping(told: Told, base: str) -> None:
    """Sweep, and tell what the report complains of."""
    told.report(sweep(LocalDiskStorage(base, application="job")))


def main() -> None:
    """Rehearse, then do it for the trace."""
    sweeping(Told(), **ARGUMENTS["rehearsal"])
    told = Told()
    mark("BEGIN")
    told.run(lambda told: sweeping(told, **ARGUMENTS["places"]))
    mark("END")
    told.tell()


main()
