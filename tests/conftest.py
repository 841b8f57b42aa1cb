"""
What every test stands on: bounded or full size, and a base directory of its own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import hypothesis
import pytest


if TYPE_CHECKING:
    from pathlib import Path


# Derandomised: a test that passed passes again; the full size looks further, with fresh seeds.
hypothesis.settings.register_profile(
    "bounded", max_examples=50, deadline=None, derandomize=True, database=None
)
hypothesis.settings.register_profile(
    "full", max_examples=2_000, deadline=None, print_blob=True, database=None
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--full``."""
    parser.addoption("--full", action="store_true", help="run the heavy sweeps at their full size")


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples hypothesis tries."""
    hypothesis.settings.load_profile("full" if config.getoption("--full") else "bounded")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is marked ``full``, unless asked for it."""
    if config.getoption("--full"):
        return
    heavy = [item for item in items if item.get_closest_marker("full")]
    if heavy:
        config.hook.pytest_deselected(items=heavy)
        items[:] = [item for item in items if item not in heavy]


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether a test that has two sizes takes the full one (``--full``)."""
    return bool(request.config.getoption("--full"))


@pytest.fixture
def unmeasured() -> dict[str, str]:
    """
    The environment of a child whose imports, system calls or speed are what is tested.

    Coverage, which would otherwise start in every child, stays out of it.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


@pytest.fixture(autouse=True)
def own_base_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    The base directory where this test's default storages live; nothing of the user's is touched.

    Whatever else of tempscope's stands in the environment is taken out of it.
    """
    for name in [name for name in os.environ if name.startswith("TEMPSCOPE_")]:
        monkeypatch.delenv(name)
    base = tmp_path_factory.mktemp("base")
    monkeypatch.setenv("TEMPSCOPE_BASE_DIR", str(base))
    return base
