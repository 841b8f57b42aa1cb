"""
Fixtures of pytest for those who use :mod:`tempscope.compat.resource_manager`.

Turn them on by ``pytest_plugins = ["tempscope.compat.resource_fixtures"]`` in your ``conftest.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tempscope._pytest.watch import Owner, Watch
from tempscope.compat.resource_manager import ResourceManager


__all__ = ["everything_gone", "temp_app", "temp_output_dir"]


@pytest.fixture
def temp_app() -> str:
    """Give the application's name; define this fixture in your conftest.py."""
    return "tempscope"


@pytest.fixture
def temp_output_dir(temp_app: str) -> Iterator[Path]:
    """Give a directory ``<app>_test_...`` for what a test writes; it goes with all in it."""
    resources = ResourceManager(temp_app)
    yield resources.create_temp_directory("test")
    resources.cleanup()


@pytest.fixture
def everything_gone(request: pytest.FixtureRequest) -> Iterator[None]:
    """
    Fail the test if something that it created is not gone when it ends.

    Looks at scopes, resource managers among them, and at files made by :mod:`tempfile`.
    Not promised: what another process made, or what was made by plain ``open()``.
    """
    watch, owner = Watch(), Owner(request.node.nodeid)
    watch.start()
    try:
        with watch.owned_by(owner):
            yield
    finally:
        watch.stop()
    owner.over = True
    left = [(trace, found) for trace in watch.take() if (found := trace.left()) is not None]
    if left:
        lines = [line for trace, (what, _) in left for line in (what, *trace.where(request.config.rootpath))]
        pytest.fail("\n".join(["what the test created is not gone:", *lines]), pytrace=False)
