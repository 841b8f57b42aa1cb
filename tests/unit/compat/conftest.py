"""What the tests of the older APIs share: ours beside the hand-written one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tempscope.compat import _default_storage, temp_file_manager


ORIGINALS = Path(__file__).parent / "originals"


def original(name: str) -> ModuleType:
    """Return the hand-written module *name*, imported anew."""
    spec = importlib.util.spec_from_file_location(f"original_{name}", ORIGINALS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def fresh_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a default storage and manager of its own, as a process of its own would."""
    _default_storage.default_storage.cache_clear()
    monkeypatch.setattr(temp_file_manager, "_default", {})
