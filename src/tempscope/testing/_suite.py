"""What keeps a suite whole when somebody inherits from it."""

from __future__ import annotations

from typing import Any, ClassVar


__all__ = ["Suite"]


class Suite:
    """
    Base of the conformance suites.

    Lives as pytest makes it, one instance a test.
    Hiding a test or a fixture of the suite would switch a clause off without a word, so it is
    refused; what a subclass may give is listed in ``to_give``.
    """

    to_give: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            hidden = next((base for base in cls.__mro__[1:] if name in vars(base)), Suite)
            if name in cls.to_give or name.startswith("__") or not _is_ours(cls, hidden):
                continue
            raise TypeError(
                f"{cls.__name__}.{name} hides {hidden.__name__}.{name}, which belongs to the suite: choose "
                f"another name; yours to give is {' and '.join(sorted(cls.to_give))}"
            )


def _is_ours(cls: type, hidden: type) -> bool:
    package = __name__.rpartition(".")[0]
    return (
        hidden is not Suite
        and hidden.__module__.startswith(package)
        and not cls.__module__.startswith(package)
    )
