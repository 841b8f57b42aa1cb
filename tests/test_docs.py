"""
Every code block of the README and of ``docs/`` runs, as a reader would run it; none is exempt.

A page is one program: its ``python`` blocks run in order, in one namespace, with a real interpreter
in an empty directory, and then what they define for pytest runs too.
A block with ``title="NAME"`` is first written to that file, so that other blocks can use it.
``console`` blocks run in bash, but for the set-up commands of the README, which install packages:
those are compared with what CI runs, and the example's run in a copy of the tree.
Whatever cannot run is a picture: ``text`` that is not Python.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import itertools
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import pytest
from markdown_it import MarkdownIt

import tempscope


ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"python", "console", "toml", "json", "ini", "text"}


@attrs.frozen
class Block:
    """One fenced block of a page: its language, its title if any, its text, and where it starts."""

    language: str
    title: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """Return the code blocks of *page*, in order; an indented one has no language."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    found = []
    for token in tokens:
        if token.type in ("fence", "code_block"):
            language, _, rest = token.info.strip().partition(" ")
            title = re.search(r'title="([^"/]+)"', rest)
            assert token.map is not None
            # A fence's text starts below the fence.
            line = token.map[0] + (token.type == "fence")
            found.append(Block(language, title[1] if title else "", token.content, line))
    return found


def program_of(page: Path) -> str:
    """Return the Python blocks of *page* as one program, each on the page's own lines."""
    lines: list[str] = []
    for block in blocks_of(page):
        if block.language == "python":
            lines += [""] * (block.line - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n" if lines else ""


def commands_of(page: Path) -> list[str]:
    """Return what a reader of *page* types into a shell: the lines after ``$``, continued ones joined."""
    commands = []
    for block in blocks_of(page):
        if block.language == "console":
            text = block.text.replace("\\\n", " ")
            commands += [" ".join(line[2:].split()) for line in text.splitlines() if line.startswith("$ ")]
    return commands


def is_set_up(command: str) -> bool:
    """Whether *command* makes a virtual environment, which takes a network and minutes."""
    return " venv " in f" {command} "


@pytest.fixture
def reader(tmp_path: Path) -> dict[str, str]:
    """The environment of a reader: this Python first on the path, a base directory of his own."""
    # A virtual environment that is active here is not active there.
    inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TEMPSCOPE_BASE_DIR": str(tmp_path.parent),
    }


def write_titled(page: Path, directory: Path) -> None:
    """Write the blocks of *page* that have a title to files in *directory*."""
    for block in blocks_of(page):
        if block.title:
            (directory / block.title).write_text(block.text, encoding="utf-8")


def page_id(page: Path) -> str:
    """Return *page* as it is called in the tree."""
    return page.relative_to(ROOT).as_posix()


def run(command: list[str], directory: Path, env: dict[str, str], timeout: float = 100) -> str:
    """Run *command* in *directory*, see that it succeeds, and return what it said, errors included."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=env,
        timeout=timeout,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_python_block_runs(page: Path, tmp_path: Path, reader: dict[str, str]) -> None:
    """The Python of a page runs from top to bottom as one program, without a warning; its tests pass."""
    program = program_of(page)
    write_titled(page, tmp_path)
    # The traceback of a failing block names the line of the page, because the program keeps the lines.
    script = tmp_path / f"page_{page.stem}.py"
    script.write_text(program, encoding="utf-8")
    run([sys.executable, "-W", "error", script.name], tmp_path, reader)
    if "def test_" in program:
        pytest_said = run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", script.name], tmp_path, reader
        )
        assert re.search(r"\d+ passed", pytest_said)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_console_block_runs(page: Path, tmp_path: Path, reader: dict[str, str]) -> None:
    """The commands of a page succeed one after the other in one shell."""
    commands = [command for command in commands_of(page) if not is_set_up(command)]
    write_titled(page, tmp_path)
    run(["bash", "-euo", "pipefail", "-c", "\n".join(commands)], tmp_path, reader)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_no_block_escapes(page: Path) -> None:
    """Every block says what it is, and what is shown as plain text is no Python or command in disguise."""
    for block in blocks_of(page):
        where = f"{page_id(page)}:{block.line}"
        assert block.language in LANGUAGES, f"{where}: {block.language!r} is none of {sorted(LANGUAGES)}"
        if block.language == "text":
            assert not looks_like_python(block.text), f"{where} is Python: call it so, and it will be run"
            assert not block.text.startswith("$ "), f"{where} is a command: call it console"
        if block.language == "console":
            assert block.text.startswith("$ "), f"{where} has no command: a line that starts with '$ '"


def looks_like_python(text: str) -> bool:
    """Whether *text* is a program that would do something."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return False
    doing = (ast.Call, ast.Import, ast.ImportFrom, ast.With, ast.FunctionDef, ast.ClassDef)
    return any(isinstance(node, doing) for node in ast.walk(tree))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_data_block_parses(page: Path) -> None:
    """TOML and JSON in a page is valid TOML and JSON."""
    parsers = {"toml": tomllib.loads, "json": json.loads}
    for block in blocks_of(page):
        if block.language in parsers:
            parsers[block.language](block.text)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link to another file of the tree names one that is there, and a heading in it that is there."""
    for target in links_of(page):
        name, _, fragment = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page_id(page)} links to {target}"
        if fragment and file.suffix == ".md":
            assert fragment in anchors_of(file), f"{page_id(page)} links to {target}"


def test_every_page_is_listed() -> None:
    """The index of the documentation leads to every page."""
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / target.partition("#")[0]).resolve() for target in links_of(index)}
    assert set(PAGES) - {README, index} <= listed


def links_of(page: Path) -> list[str]:
    """Return what *page* links to within the tree."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    inline = [child for token in tokens for child in token.children or ()]
    targets = [str(child.attrs.get("href") or child.attrs.get("src") or "") for child in inline]
    return [target for target in targets if target and not re.match(r"[a-z]+:", target)]


def anchors_of(page: Path) -> set[str]:
    """Return the names of the headings of *page*, as a forge makes them."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    titles = [after.content for token, after in itertools.pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_docstring_example_holds() -> None:
    """What a docstring shows after ``>>>`` is what happens."""
    for module in pkgutil.walk_packages(tempscope.__path__, "tempscope."):
        source = Path(tempscope.__path__[0], *module.name.split(".")[1:])
        file = source / "__init__.py" if module.ispkg else source.with_suffix(".py")
        if ">>> " in file.read_text(encoding="utf-8"):
            failed, _ = doctest.testmod(importlib.import_module(module.name))
            assert not failed, module.name


def set_up_commands() -> dict[str, list[str]]:
    """Return the README's set-up commands by the tool that they are written for."""
    commands = [command for command in commands_of(README) if is_set_up(command)]
    return {
        "pip": [command for command in commands if command.startswith("python3.11 -m venv ")],
        "uv": [command for command in commands if command.startswith("uv venv ")],
    }


def test_readme_gives_two_commands_in_two_forms() -> None:
    """The README sets everything up by two commands, for the example and for the tests, each in two forms."""
    for tool, (example, tests) in set_up_commands().items():
        assert example.endswith(" && .venv/bin/python examples/video_service/main.py"), tool
        assert tests.endswith(" && .venv/bin/python -m tests"), tool


def test_ci_runs_the_readmes_command() -> None:
    """CI does what the README's test command does, but with an environment outside the tree."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    command = set_up_commands()["pip"][1]
    _, install, tests = command.split(" && ")
    assert install == ".venv/bin/pip install '.[dev,examples]'"
    assert tests == ".venv/bin/python -m tests"
    assert '"$venv/bin/pip" install --quiet \'.[dev,examples]\'\n"$venv/bin/python" -m tests\n' in script


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the tree as a fresh clone has it: nothing built, nothing installed."""
    made = [".*", "__pycache__", "build", "dist", "*.egg-info"]
    return shutil.copytree(ROOT, tmp_path / "clone", ignore=shutil.ignore_patterns(*made))


@pytest.mark.network
@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("python3.11"), reason="there is no python3.11 on the path")
@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_example_command_works_in_a_fresh_clone(tool: str, clone: Path, reader: dict[str, str]) -> None:
    """The README's first command installs and runs the example in a fresh clone, in both forms."""
    run(["bash", "-euo", "pipefail", "-c", set_up_commands()[tool][0]], clone, reader, timeout=800)


@pytest.mark.network
@pytest.mark.timeout(900)
def test_readme_runs_on_the_lowest_dependencies(clone: Path, reader: dict[str, str]) -> None:
    """The lower bounds are true: with them, and without any extra, the README's programs run."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    run(["uv", "venv", "--quiet", "--python", python], clone, reader, timeout=300)
    run(["uv", "pip", "install", "--quiet", "--resolution", "lowest-direct", "."], clone, reader, timeout=300)
    script = clone / "page_README.py"
    script.write_text(program_of(README), encoding="utf-8")
    run([".venv/bin/python", script.name], clone, reader)
