"""
All tests and checks of the project, by one command: ``python -m tests``.

Runs every check, also after one failed, and says at the end which did.
Wants tempscope installed with its extras ``dev`` and ``examples``; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

import attrs


ROOT = Path(__file__).resolve().parent.parent
SUMMARY = re.compile(r"=+ (.*\b\d+ (?:passed|failed|error|skipped|deselected).*|no tests ran.*) =+$")


@attrs.frozen
class Check:
    """One check: its name on the command line, what it looks at, and the command that does it."""

    name: str
    what: str
    command: tuple[str, ...]


CHECKS = (
    Check("lint", "ruff: mistakes and style", ("ruff", "check", ".")),
    Check("format", "ruff: layout of the code", ("ruff", "format", "--check", ".")),
    Check("mypy", "mypy --strict: src, examples and the public API's types", ("mypy",)),
    # Told which Python, because it would ask the path.
    Check("pyright", "pyright: the same", ("pyright", "--pythonpath", sys.executable)),
    Check("imports", "import-linter: no floor imports an upper one", ("lint-imports",)),
    Check("tests", "pytest: tests, documents, examples", ("coverage", "run", "-m", "pytest")),
    Check("coverage", "coverage: every line and branch of the package", ("coverage", "report")),
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests",
        description="Run all tests and checks of tempscope, and say at the end which failed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="checks, in their order:\n" + "\n".join(f"  {c.name:<10} {c.what}" for c in CHECKS),
    )
    names = [check.name for check in CHECKS]
    parser.add_argument(
        "--only", nargs="+", metavar="CHECK", choices=names, default=names, help="run only these"
    )
    parser.add_argument(
        "--full", action="store_true", help="the heavy sweeps too, at their full size (hours)"
    )
    parser.add_argument("pytest", nargs="*", metavar="-- ...", help="what to hand on to pytest")
    return parser.parse_args(arguments)


def main() -> int:
    """Run the checks; return 0 if all passed, else 1."""
    options = parse()
    results: list[tuple[Check, int, float]] = []
    closing = ""
    for check in CHECKS:
        if check.name in options.only:
            print(f"\n──── {check.name}: {check.what}", flush=True)
            started = time.monotonic()
            code, last = run(check, options)
            closing = last or closing
            results.append((check, code, time.monotonic() - started))
    print("\n──── all checks")
    for check, code, seconds in results:
        print(f"{check.name:<10} {'FAILED' if code else 'passed'} {seconds:7.1f}s")
    # Last, because that is where people and machines look for it.
    print(closing, flush=True)
    return int(any(code for _, code, _ in results))


def run(check: Check, options: argparse.Namespace) -> tuple[int, str]:
    """Run *check*; return its exit code and, of the tests, pytest's own last line."""
    command = [tool(check.command[0]), *check.command[1:]]
    if check.name == "tests":
        subprocess.run([tool("coverage"), "erase"], cwd=ROOT, check=True)
        return watch([*command, *(["--full"] if options.full else []), *options.pytest])
    if check.name == "coverage":
        subprocess.run([tool("coverage"), "combine", "--quiet"], cwd=ROOT, check=False)
    return subprocess.run(command, cwd=ROOT, check=False).returncode, ""


def tool(name: str) -> str:
    """Return where *name* is in this Python's own environment, never elsewhere on the path."""
    found = shutil.which(name, path=sysconfig.get_path("scripts"))
    if found is None:
        sys.exit(f"{name} is not installed beside {sys.executable}: pip install '.[dev,examples]'")
    return found


def watch(command: Sequence[str]) -> tuple[int, str]:
    """Run pytest by *command*, show what it says, and return its exit code and last line."""
    closing = ""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            closing = line.rstrip() if SUMMARY.match(line.rstrip()) else closing
    return process.returncode, closing


if __name__ == "__main__":
    sys.exit(main())
