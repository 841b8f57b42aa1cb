"""All benchmarks: ``python -m tests.benchmarks``."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def main() -> int:
    """Run each ``bench_*.py`` beside this file; return 0 if all reached their marks, else 1."""
    here = Path(__file__).parent
    # As if each were started by itself.
    sys.path.insert(0, str(here))
    codes = []
    for path in sorted(here.glob("bench_*.py")):
        print(f"──── {path.stem}")
        try:
            codes.append(runpy.run_path(str(path))["main"](*sys.argv[1:2]))
        except ModuleNotFoundError as error:
            print(f"not measured: {error}; the extra 'benchmarks' has what is compared with")
            codes.append(1)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
