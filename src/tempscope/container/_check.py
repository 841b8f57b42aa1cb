"""The start-up check of a container."""

from __future__ import annotations

from tempscope.container import _rules
from tempscope.container._graph import AnyContainer, nodes
from tempscope.errors import ConfigurationError


_RULES = (
    _rules.unresolved,
    _rules.captive,
    _rules.constants,
    _rules.owned_by_resource,
    _rules.configuration,
    _rules.wrong_arguments,
)


def check_container(container: AnyContainer) -> None:
    """
    Check, once at start-up, that a container can work; it builds nothing but the settings.

    Found are:

    - dependencies that nobody provides, and providers of nothing;
    - captives: a singleton or resource that holds, directly or through factories, something of
      one scope (its manager, a :class:`PerScope` object), or that captures the storage so that a
      later override would not reach it; a manager that was put in as a value;
    - resources that own a scope: they would not tell it how the job went;
    - an unknown backend, and settings that cannot be;
    - arguments that a class does not take, or misses.

    Not promised: to see into functions, or what wiring markers ask for.

    Args:
        container: An instance or a class; what it nests is checked with it.

    Raises:
        ConfigurationError: With everything that was found, one finding a line, each with the
            provider's path and what would be right.
    """
    graph = nodes(container)
    findings = [finding for rule in _RULES for finding in rule(graph)]
    if findings:
        lines = "\n".join(f"- {finding}" for finding in findings)
        raise ConfigurationError(f"{_title(container)} cannot work as it is wired:\n{lines}")


def _title(container: AnyContainer) -> str:
    kind = container if isinstance(container, type) else getattr(container, "declarative_parent", None)
    return f"the container {kind.__name__}" if kind is not None else "the container"
