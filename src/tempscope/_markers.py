"""
A container's markers, seen from outside: nothing here imports the container's library.

``Provide[...]`` stands in a signature until the container, wired to the module, puts the real thing
in its place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tempscope.errors import ConfigurationError


__all__ = ["hide_markers", "refuse_marker"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def refuse_marker(value: object, what: str) -> None:
    """
    Notice a container's marker that was never replaced.

    A function that was decorated by ``@inject`` but whose module was not wired receives the marker
    itself.

    Raises:
        ConfigurationError: If *value* is one.
    """
    if _is_marker(value):
        raise ConfigurationError(
            f"{what} is a marker of a container, {type(value).__name__}[...], so the function that got it "
            "is not wired: call container.wire(modules=[...]) first, and decorate the function with @inject"
        )


def hide_markers(wrapper: Callable[_P, _R], function: Callable[..., object]) -> Callable[_P, _R]:
    """
    Return *wrapper*, which wraps *function*, without the markers of its signature.

    Wiring looks for markers and would wrap *wrapper* once more, so that what they stand for would
    be made before *wrapper* runs: too early, if *wrapper* opens the scope that it is for.
    """
    signature = inspect.signature(function)
    theirs = [each for each in signature.parameters.values() if not _is_filled_in(each)]
    if len(theirs) < len(signature.parameters):
        # inspect.signature() looks here first; functions have the attribute only once it is set.
        wrapper.__dict__["__signature__"] = signature.replace(parameters=theirs)
    return wrapper


def _is_filled_in(parameter: inspect.Parameter) -> bool:
    candidates = (parameter.default, *getattr(parameter.annotation, "__metadata__", ()))
    # FastAPI's Depends(Provide[...]) carries the marker in an attribute.
    return any(_is_marker(each) or _is_marker(getattr(each, "dependency", None)) for each in candidates)


def _is_marker(value: object) -> bool:
    return getattr(value, "__IS_MARKER__", False) is True
