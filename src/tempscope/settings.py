"""
Everything that can be configured, as one value.

The same rules hold wherever a value comes from: a mapping, the environment or TOML.
What is absent, None, or an empty environment variable is the default; what is unknown is an error.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import attrs

from tempscope.errors import ConfigurationError
from tempscope.policies.form import policy_from, policy_to
from tempscope.policies.on_close import DeleteOnClose
from tempscope.protocols import CleanupPolicy
from tempscope.units import (
    check_count,
    check_fraction,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["Backend", "Settings"]

Backend: TypeAlias = Literal["disk", "ram", "memory", "hardlink"]

# What asks for something that other backends do not keep to. The flags are not here: those of the disks
# are also for the one that memory spills to, and where there is none, or no memory, nothing is amiss.
_ONLY_FOR: dict[str, Backend] = {"max_files": "memory", "spill_above": "memory", "threshold": "hardlink"}
_PREFIX = "TEMPSCOPE_"
_FLAGS: dict[str, object] = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def _check_backend(value: str) -> Backend:
    backends: tuple[Backend, ...] = get_args(Backend)
    for backend in backends:
        if value == backend:
            return backend
    allowed = "it must be 'disk', 'ram', 'memory' or 'hardlink'"
    raise ConfigurationError(f"backend cannot be {value!r}: {allowed}{_near(value, backends)}")


def _check_base_dir(value: str | os.PathLike[str] | None) -> Path | None:
    if value is None:
        return None
    text: object = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigurationError(f"base_dir cannot be {value!r}: it must be the path of a directory")
    return Path(os.path.expanduser(text))


def _check_policy(value: CleanupPolicy | str | Mapping[str, Any]) -> CleanupPolicy:
    return policy_from(value)


def _check_threshold(value: str) -> str:
    return format_size(parse_size(value, what="threshold", minimum=0), exact=True)


def _check_max_bytes(value: int | str | None) -> int | None:
    return None if value is None else parse_size(value, what="max_bytes", bare=True)


def _check_quota(value: int | str | None) -> str | None:
    return None if value is None else format_size(parse_size(value, what="quota", bare=True), exact=True)


def _check_number(value: int | str | None, what: str) -> int | None:
    number: object = value
    if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value.strip()):
        number = int(value)
    return None if number is None else check_count(number, what=what)


def _check_max_files(value: int | str | None) -> int | None:
    return _check_number(value, "max_files")


def _check_janitor_interval(value: timedelta | str) -> str:
    return "off" if value == "off" else format_duration(parse_duration(value, what="janitor_interval"))


def _check_janitor_jitter(value: float | str) -> float:
    number: object = value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", value.strip()):
        number = float(value)
    return check_fraction(number, what="janitor_jitter")


def _check_janitor_entries(value: int | str | None) -> int | None:
    return _check_number(value, "janitor_entries")


def _check_janitor_seconds(value: timedelta | str | float | None) -> float | None:
    return None if value is None else parse_duration(value, what="janitor_seconds", bare="s")


def _check_janitor_rate(value: int | str | None) -> int | None:
    return None if value is None else parse_size(value, what="janitor_bytes_per_second", bare=True)


def _check_spill_above(value: str | None) -> str | None:
    return None if value is None else format_size(parse_size(value, what="spill_above"), exact=True)


def _flag(value: bool | str) -> bool:
    # What is no word for it is left to the validator, which knows the setting's name.
    return cast("bool", _FLAGS.get(value.strip().lower(), value) if isinstance(value, str) else value)


def _is_flag(_: object, setting: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        words = "true, yes, on or 1, or false, no, off or 0"
        raise ConfigurationError(f"{setting.name} cannot be {value!r}: it must be {words}")


def _is_text(_: object, setting: attrs.Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise ConfigurationError(f"{setting.name} cannot be {value!r}: it must be text, and not empty")


@attrs.frozen(kw_only=True)
class Settings:
    """
    Everything that can be configured.

    A value: make it once at start-up and share it.
    ``Settings()`` is the defaults; each argument may also be given as its text.
    Sizes are kept as text with a unit (``"10GiB"``), except ``max_bytes``, which is a number of bytes.

    Args:
        backend: Where bytes live: ``"disk"``, ``"ram"`` (disk on ``/dev/shm``), ``"memory"`` or
            ``"hardlink"``.

        base_dir: The parent of our own root directory; a leading ``~`` is the home directory; None
            is ``TEMPSCOPE_BASE_DIR``, else the system's directory for temporary files.

        application: Whose scopes these are; a policy is asked only about its own application's;
            None is the main program's file name.

        policy: What stays when a scope closes: a policy, its kind, or a table; see
            :mod:`tempscope.policies.form`.

        label: The kind of job; policies count per label.

        strict: Whether leftovers that a sweep will finish raise instead of warning.

        sweep_on_start: Whether the first scope that needs the disk also removes what dead
            processes left.

        background_removal: Whether large scopes are removed in the background.

        trust_locks: Whether the locks of a network file system are believed.

        threshold: From which size on inputs are hard-linked; smaller ones are copied; refused with
            another backend than ``"hardlink"``.

        verify_content: Whether a hard-linked input is also compared by its content, which is then read
            twice.

        quota: How many bytes the open scopes of one label may use together: text with a unit, or a
            number of bytes; None is no limit.

        max_bytes: How many bytes the storage's open scopes may use together, of a memory storage all
            its files: a number of bytes or text with a unit; None is no limit.

        max_files: How many files and directories of the memory storage there may be; None is no
            limit; refused with another backend.

        spill: Whether files move from memory to disk when another program needs their path
            (``"memory"``).

        spill_above: From which size on a file moves from memory to disk by itself; None is never;
            refused with another backend.

        janitor_interval: How long a started janitor waits from one pass to the next, or ``"off"`` for
            one pass only.

        janitor_jitter: By which part of that the wait varies at random, from 0 to 1.

        janitor_entries, janitor_seconds, janitor_bytes_per_second: What one pass may cost, as in
            :class:`~tempscope.janitor.SweepBudget`; None is no bound.

    Raises:
        ConfigurationError: If a value is not allowed; the message names key, value and what is
            allowed.
    """

    backend: Backend = attrs.field(default="disk", converter=_check_backend)
    base_dir: Path | None = attrs.field(default=None, converter=_check_base_dir)
    application: str | None = attrs.field(default=None, validator=_is_text)
    policy: CleanupPolicy = attrs.field(default=DeleteOnClose(), converter=_check_policy)
    label: str | None = attrs.field(default=None, validator=_is_text)
    strict: bool = attrs.field(default=False, converter=_flag, validator=_is_flag)
    sweep_on_start: bool = attrs.field(default=True, converter=_flag, validator=_is_flag)
    background_removal: bool = attrs.field(default=False, converter=_flag, validator=_is_flag)
    trust_locks: bool = attrs.field(default=False, converter=_flag, validator=_is_flag)
    threshold: str = attrs.field(default="0B", converter=_check_threshold)
    verify_content: bool = attrs.field(default=False, converter=_flag, validator=_is_flag)
    quota: str | None = attrs.field(default=None, converter=_check_quota)
    max_bytes: int | None = attrs.field(default=None, converter=_check_max_bytes)
    max_files: int | None = attrs.field(default=None, converter=_check_max_files)
    spill: bool = attrs.field(default=True, converter=_flag, validator=_is_flag)
    spill_above: str | None = attrs.field(default=None, converter=_check_spill_above)
    janitor_interval: str = attrs.field(default="30m", converter=_check_janitor_interval)
    janitor_jitter: float = attrs.field(default=0.1, converter=_check_janitor_jitter)
    janitor_entries: int | None = attrs.field(default=None, converter=_check_janitor_entries)
    janitor_seconds: float | None = attrs.field(default=None, converter=_check_janitor_seconds)
    janitor_bytes_per_second: int | None = attrs.field(default=None, converter=_check_janitor_rate)

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(type(self)):
            value, backend = getattr(self, field.name), _ONLY_FOR.get(field.name, self.backend)
            if value != field.default and self.backend != backend:
                raise ConfigurationError(
                    f"{field.name} cannot be {value!r} with backend {self.backend!r}: it applies to backend "
                    f"{backend!r} only; leave it out, or set backend to {backend!r}"
                )
        if self.spill_above is not None and not self.spill:
            raise ConfigurationError(
                f"spill_above cannot be {self.spill_above!r} while spill is False: no file may move to disk"
            )

    def as_dict(self) -> dict[str, Any]:
        """
        Return all settings as plain types that :meth:`from_mapping` takes back.

        A policy of your own has no plain form and is there as it is.
        """
        plain = {name: getattr(self, name) for name in _names()}
        plain["base_dir"] = None if self.base_dir is None else str(self.base_dir)
        plain["policy"] = policy_to(self.policy)
        return plain

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any] | None = None) -> Settings:
        """
        Return the settings in *mapping*; what is not in it, or None, is the default.

        Raises:
            ConfigurationError: If a key is unknown or a value is not allowed.
        """
        if mapping is None:
            return cls()
        if isinstance(mapping, Settings):
            raise ConfigurationError(
                "settings cannot be a Settings: they must be a mapping, which its as_dict() gives"
            )
        if not isinstance(mapping, Mapping):
            raise ConfigurationError(f"settings cannot be {mapping!r}: they must be a mapping")
        for key, value in mapping.items():
            if key not in _names():
                raise ConfigurationError(
                    f"there is no setting {key!r} (given as {value!r}): the settings are "
                    f"{', '.join(_names())}{_near(key, _names())}"
                )
        return cls(**{key: value for key, value in mapping.items() if value is not None})

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """
        Return the settings in the environment: ``TEMPSCOPE_BACKEND``, ``TEMPSCOPE_BASE_DIR``, ….

        An empty variable is as good as none.

        Args:
            environ: The variables; None is those of this process.

        Raises:
            ConfigurationError: If a variable that begins with ``TEMPSCOPE_`` is no setting, or its
                value is not allowed; the message names it.
        """
        found = {
            variable: value
            for variable, value in (os.environ if environ is None else environ).items()
            if variable.startswith(_PREFIX)
        }
        known = {_PREFIX + name.upper(): name for name in _names()}
        for variable in found:
            if variable not in known:
                raise ConfigurationError(
                    f"the environment variable {variable!r} is no setting: the variables are "
                    f"{', '.join(known)}{_near(variable, known)}"
                )
        settings = cls()
        values: dict[str, Any] = {}
        # One more at a time, in the settings' order, so that an error names the variable that is wrong.
        for variable, name in known.items():
            if found.get(variable, "").strip():
                values[name] = found[variable]
                settings = _named(partial(cls, **values), f"the environment variable {variable}")
        return settings

    @classmethod
    def from_toml(cls, source: str | os.PathLike[str]) -> Settings:
        """
        Return the settings in the table ``[tempscope]``, or ``[tool.tempscope]``, of a TOML document.

        Args:
            source: The path of a file, or the document itself: text is taken for a document if it
                holds ``=``, ``[`` or a line break, or is empty.

        Raises:
            ConfigurationError: If the file cannot be read or is no TOML, has both tables, has
                settings outside of them, an unknown key, or a value that is not allowed.
        """
        if isinstance(source, str) and (not source or any(sign in source for sign in "=[\n")):
            return _named(lambda: cls.from_mapping(_table(source)), "in the TOML text")
        path = os.fspath(source)
        return _named(lambda: cls.from_mapping(_table(_read(path))), f"in {path!r}", path)


def _names() -> list[str]:
    return [field.name for field in attrs.fields(Settings)]


def _near(word: object, allowed: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), list(allowed), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _named(build: Callable[[], Settings], where: str, path: str | None = None) -> Settings:
    try:
        return build()
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}", path=path, cause=error) from error


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"it cannot be read: {error}", path=path, cause=error) from error


def _table(text: str) -> Mapping[str, Any]:
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"that is no TOML: {error}", cause=error) from error
    tool = document.get("tool")
    own = [table for table in (document, tool) if isinstance(table, dict) and "tempscope" in table]
    if len(own) > 1:
        raise ConfigurationError("there are both [tempscope] and [tool.tempscope]; there must be only one")
    outside = [key for key in document if key in _names()]
    if not own and outside:
        raise ConfigurationError(f"{outside[0]!r} stands in no table; the settings belong under [tempscope]")
    table = own[0]["tempscope"] if own else {}
    if not isinstance(table, dict):
        raise ConfigurationError(f"tempscope cannot be {table!r}: it must be a table, [tempscope]")
    return table
