"""
Policies as configuration writes them.

A policy is written as its kind, ``"keep_on_failure"``, or as a table with its kind and arguments,
``{kind = "keep_on_failure", at_most = 5, for = "3d"}``; an argument's name loses its trailing
underscore.
The word ``"none"`` is the argument None: no bound.
A combination is a table of one key with a list: ``{any = ["keep_on_failure", …]}``, likewise
``all`` and ``in_order``.

Text that begins with a brace is such a table in TOML, so that environment variables, TOML files
and mappings share one grammar.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from tempscope.errors import ConfigurationError
from tempscope.policies._ask import check_policy
from tempscope.policies.combine import InOrder, KeepIfAll, KeepIfAny, in_order, keep_if_all, keep_if_any
from tempscope.policies.keep_last import KeepLast
from tempscope.policies.max_age import ExpireAfter
from tempscope.policies.on_close import DeleteOnClose, KeepAll, KeepOnFailure
from tempscope.policies.size_budget import SizeBudget
from tempscope.protocols import CleanupPolicy


__all__ = ["policy_from", "policy_to"]

_KINDS: dict[str, type[Any]] = {
    "delete_on_close": DeleteOnClose,
    "expire_after": ExpireAfter,
    "keep_all": KeepAll,
    "keep_last": KeepLast,
    "keep_on_failure": KeepOnFailure,
    "size_budget": SizeBudget,
}
_COMBINATIONS: dict[str, Callable[..., CleanupPolicy]] = {
    "any": keep_if_any,
    "all": keep_if_all,
    "in_order": in_order,
}
_COMBINED: dict[type[Any], str] = {KeepIfAny: "any", KeepIfAll: "all", InOrder: "in_order"}
_NO_BOUND = "none"


def policy_from(value: object, *, what: str = "policy") -> CleanupPolicy:
    """
    Return the policy that *value* is, or describes.

    Args:
        value: A policy, its kind, or a table; see the module.

        what: The name of the setting, for the message.

    Raises:
        ConfigurationError: If *value* describes no policy; the message names *what*, the value and
            what is allowed.
    """
    if isinstance(value, str):
        value = _read(value.strip(), what)
    if not isinstance(value, Mapping):
        return check_policy(value, what=what)
    table = {key: item for key, item in value.items() if item is not None}
    for key in _COMBINATIONS:
        if key in table:
            return _combination(key, table, what)
    return _single(table, what)


def policy_to(policy: CleanupPolicy) -> object:
    """
    Return *policy* as plain types that :func:`policy_from` takes back.

    A policy that is not of this package has no such form, and is returned as it is.
    """
    if type(policy) in _COMBINED:
        return {_COMBINED[type(policy)]: [policy_to(member) for member in policy.policies]}  # type: ignore[attr-defined]
    for kind, cls in _KINDS.items():
        if type(policy) is cls:
            plain = {name: _plain(getattr(policy, field.name)) for name, field in _arguments(cls).items()}
            return {"kind": kind, **plain} if plain else kind
    return policy


def _read(text: str, what: str) -> Mapping[str, object]:
    if not text.startswith("{"):
        return {"kind": text}
    import tomllib

    try:
        found = tomllib.loads(f"policy = {text}")
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{what} cannot be {text!r}: that is no table in TOML ({error}); write it like "
            '{kind = "keep_on_failure", at_most = 5}',
            cause=error,
        ) from error
    table: Mapping[str, object] = found.pop("policy")
    if found:
        raise ConfigurationError(f"{what} cannot be {text!r}: more follows after the table")
    return table


def _combination(key: str, table: Mapping[str, object], what: str) -> CleanupPolicy:
    members = table[key]
    if len(table) > 1 or not isinstance(members, (list, tuple)) or not members:
        raise ConfigurationError(
            f"{what} cannot be {dict(table)!r}: a combination has the one key {key!r} and a list of policies"
        )
    policies = [policy_from(member, what=f"{what}.{key}[{n}]") for n, member in enumerate(members)]
    return _COMBINATIONS[key](*policies)


def _single(table: Mapping[str, object], what: str) -> CleanupPolicy:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigurationError(f"{what} cannot be {kind or dict(table)!r}: {_allowed_kinds(kind)}")
    arguments = _arguments(_KINDS[kind])
    given = {key: item for key, item in table.items() if key != "kind"}
    _check_arguments(kind, given, arguments, what)
    values = {arguments[key].name: None if item == _NO_BOUND else item for key, item in given.items()}
    try:
        return check_policy(_KINDS[kind](**values))
    except ConfigurationError as error:
        raise ConfigurationError(f"{what} {kind!r}: {error}", cause=error) from error


def _check_arguments(
    kind: str, given: Mapping[str, object], arguments: Mapping[str, attrs.Attribute[Any]], what: str
) -> None:
    allowed = (
        f"{kind!r} has the arguments {', '.join(arguments)}" if arguments else f"{kind!r} has no arguments"
    )
    for key, item in given.items():
        if key not in arguments:
            raise ConfigurationError(f"{what} {kind!r}: no argument {key!r} (given as {item!r}); {allowed}")
    for key, argument in arguments.items():
        if argument.default is attrs.NOTHING and key not in given:
            raise ConfigurationError(
                f'{what} {kind!r}: {key} is missing; write {{kind = "{kind}", {key} = …}}'
            )


def _arguments(cls: type[Any]) -> dict[str, attrs.Attribute[Any]]:
    return {field.name.rstrip("_"): field for field in attrs.fields(cls) if field.init}


def _allowed_kinds(kind: object) -> str:
    near = difflib.get_close_matches(str(kind), _KINDS, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return (
        f"it must be one of {', '.join(map(repr, _KINDS))}, a table with one of them as its kind, "
        f"or a table with {', '.join(map(repr, _COMBINATIONS))} and a list of policies{meant}"
    )


def _plain(value: object) -> object:
    if value is None:
        return _NO_BOUND
    return list(value) if isinstance(value, tuple) else value
