"""All benchmarks: ``python -m tests.benchmarks``."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def main() -> int:
    """Run each ``bench_*.py`` beside this file; return 0 if all reached their marks, else 1."""
    codes = []
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        print(f"──── {path.stem}")
        codes.append(runpy.run_path(str(path))["main"](*sys.argv[1:2]))
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
