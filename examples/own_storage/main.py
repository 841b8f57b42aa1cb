"""
A job of a batch system, whose temporary files live in the job's scratch directory.

::

    python examples/own_storage/main.py
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from scratch_storage import ScratchStorage
from tempscope import TempFileManager, TempScopes


def count_lines(manager: TempFileManager, text: Path, report: Path) -> None:
    """Count the lines of *text*, as any service would: it knows nothing of scratch directories."""
    staged = manager.stage(text)
    draft = manager.new_file(".txt")
    draft.write_text(f"{len(staged.path.read_text().splitlines())} lines\n")
    manager.publish(draft, report)


def main() -> None:
    """Play the batch system, and run one job."""
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as home:
        os.environ["SLURM_TMPDIR"] = scratch
        text, report = Path(home, "text.txt"), Path(home, "report.txt")
        text.write_text("one\ntwo\nthree\n")
        with ScratchStorage(os.environ["SLURM_TMPDIR"]) as storage:
            with TempScopes(storage).open("count") as manager:
                count_lines(manager, text, report)
                print(f"in the scratch directory: {manager.usage().files} file")
            print(f"left in the scratch directory: {len(os.listdir(scratch))} files")
        print(f"the report: {report.read_text().strip()}")


if __name__ == "__main__":
    main()
