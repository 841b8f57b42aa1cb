"""The names that tempscope.policies gives out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tempscope import policies


@pytest.mark.parametrize("name", policies.__all__)
def test_every_name_is_there(name):
    """Each name that is listed can be had, twice the same, and is shown by dir()."""
    assert getattr(policies, name) is getattr(policies, name)
    assert name in dir(policies)


def test_an_unknown_name_is_an_attribute_error():
    """A name that is not listed raises AttributeError."""
    with pytest.raises(AttributeError, match="KeepForever"):
        policies.KeepForever  # noqa: B018


WITHOUT_FRONT_PAGE = """
import importlib.util, sys, types
package = types.ModuleType("tempscope")
package.__path__ = importlib.util.find_spec("tempscope").submodule_search_locations
sys.modules["tempscope"] = package
"""


def test_the_usual_policy_does_not_pay_for_the_others():
    """Using DeleteOnClose imports neither the budgets nor the combinators."""
    code = WITHOUT_FRONT_PAGE + "from tempscope.policies import DeleteOnClose; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.startswith("tempscope.policies.")}
    assert loaded == {"tempscope.policies.on_close", "tempscope.policies._kept"}
