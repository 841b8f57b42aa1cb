"""
Looking after storages from outside their scopes: :func:`sweep`, :class:`Janitor` and :func:`stats`.

Code that cleans up at the end of a job is an optimisation; the sweep is the promise.
"""

from __future__ import annotations

from tempscope.janitor._budget import SweepBudget
from tempscope.janitor._janitor import Janitor
from tempscope.janitor._stats import stats
from tempscope.janitor._sweep import Sweep, sweep
from tempscope.model import JanitorStatus


__all__ = ["Janitor", "JanitorStatus", "Sweep", "SweepBudget", "stats", "sweep"]
