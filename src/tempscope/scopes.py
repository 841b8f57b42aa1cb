"""
Opening scopes: :class:`TempScopes`, and the decorator that opens one around a call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar, cast

from tempscope import _open_scopes
from tempscope._current import current_scope
from tempscope._markers import hide_markers, refuse_marker
from tempscope._names import check_label
from tempscope._scope import check_storage
from tempscope.errors import ConfigurationError, UnsupportedError
from tempscope.listeners import check_listeners
from tempscope.manager import TempFileManager
from tempscope.model import ScopeRecord
from tempscope.policies import DeleteOnClose, check_policy
from tempscope.protocols import CleanupPolicy, Listener, TakingOver, TempStorage
from tempscope.units import parse_size


__all__ = ["TempScopes", "current_scope", "in_scope"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_DELETE = DeleteOnClose()


class TempScopes:
    """
    Opens scopes: what a service that owns jobs receives.

    Cheap and without state of its own: make one wherever you like, share it between all threads,
    drop it whenever you like; the scopes it opened live on.

    Args:
        storage: Where the files live.

        policy: What stays when a scope closes, unless a scope says otherwise.

        label: The kind of job, by which policies count: any text.

        quota: How many bytes its open scopes may use together: bytes, or text such as
            ``"10GiB"``; None is no limit.
            What has the same storage, label and quota counts together, whoever made it.

        strict: Whether closing raises :class:`~tempscope.errors.LeftoverError` when something
            could not be removed; otherwise that is a warning and stands in the report.

        listeners: Functions that are told what happens in the scopes; see :mod:`tempscope.listeners`.

    Raises:
        ConfigurationError: If *storage* or *policy* is none, *quota* no size, or a listener cannot be
            called.
    """

    __slots__ = ("_label", "_listeners", "_policy", "_quota", "_storage", "_strict")

    def __init__(
        self,
        storage: TempStorage,
        policy: CleanupPolicy = _DELETE,
        *,
        label: str | None = None,
        quota: int | str | None = None,
        strict: bool = False,
        listeners: Iterable[Listener] = (),
    ) -> None:
        refuse_marker(storage, "storage")
        self._storage = check_storage(storage)
        self._policy = check_policy(policy)
        self._label = check_label(label, "a label")
        self._quota = None if quota is None else parse_size(quota, what="quota", bare=True)
        self._strict = strict
        self._listeners = check_listeners(listeners)

    @property
    def storage(self) -> TempStorage:
        """Where the files live."""
        return self._storage

    @property
    def policy(self) -> CleanupPolicy:
        """What stays when a scope closes, unless a scope says otherwise."""
        return self._policy

    @property
    def label(self) -> str | None:
        """The kind of job."""
        return self._label

    @property
    def quota(self) -> int | None:
        """How many bytes its open scopes may use together; None for no limit."""
        return self._quota

    def open(
        self,
        name: str | None = None,
        *,
        policy: CleanupPolicy | None = None,
        quota: int | str | None = None,
    ) -> TempFileManager:
        """
        Open the scope of one job; enter it by ``with`` or ``async with``.

        It is always a scope of its own, also inside another one: only ``manager.scope()`` nests.
        Nothing is made before its first file.

        Args:
            name: The job's name: any text, for people and logs.

            policy: What stays of this scope; None for the usual.

            quota: How many bytes this scope and its children may use: bytes, or text such as
                ``"10GiB"``; None is no limit of its own.

        Raises:
            InvalidNameError: If *name* is not text, or longer than 1,000 characters.

            ConfigurationError: If *policy* is none, or *quota* no size.

            UnsupportedError: If the policy may keep what the storage cannot.
        """
        if type(name) is not str and name is not None:
            refuse_marker(name, "name")
        manager = TempFileManager._opened(
            self._storage,
            self._policy if policy is None else check_policy(policy),
            name,
            label=self._label,
            label_quota=self._quota,
            quota=quota,
            strict=self._strict,
        )
        if self._listeners:
            manager._listeners = self._listeners
        return manager

    def attach(self, token: str) -> TempFileManager:
        """
        Take over the scope that :meth:`TempFileManager.detach` handed over; enter it like an opened one.

        It keeps name, label and opening time, and is a root scope of this storage, policy and
        application from now on; only what shall happen if this process dies is still what the policy it
        was opened with wanted.
        Its files stand under ``manager.directory``.
        Any number of processes and threads may try; one gets it.

        Args:
            token: What ``detach()`` returned.

        Raises:
            HandOverError: If the token is malformed, was used before, was never given out on this
                base directory, or its time has passed.

            UnsupportedError: If the storage takes none over.

            StorageError: If the system refuses; the scope still waits then.
        """
        refuse_marker(token, "token")
        storage = self._storage
        if not isinstance(storage, TakingOver):
            raise UnsupportedError(
                f"{storage!r} takes no scopes over: use the kind of storage that detached it"
            )
        from tempscope._sharing import take_up

        manager = TempFileManager._opened(
            storage, self._policy, None, label_quota=self._quota, strict=self._strict
        )
        try:
            take_up(manager, *storage.take_over(token))
        except BaseException as error:
            if not manager._ends_empty():
                # An interrupt came when the scope was ours already: it ends as one that was cancelled.
                manager.close(error)
            raise
        if self._listeners:
            manager._listeners = self._listeners
        return manager

    def active(self) -> list[ScopeRecord]:
        """
        Tell which scopes on this storage are open in this process, oldest first.

        Each record has its usage, which costs a walk over its files.
        """
        return [
            manager._record_now()
            for manager in _open_scopes.open_managers()
            if manager.storage is self._storage and not (manager._standalone and manager._area is None)
        ]

    def __repr__(self) -> str:
        label = "" if self._label is None else f", label={self._label!r}"
        return f"TempScopes({self._storage!r}, {self._policy!r}{label})"


def in_scope(
    scopes: TempScopes | Callable[[], TempScopes], name: str | None = None
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """
    Decorate a function so that each call of it runs in a scope of its own.

    For plain and coroutine functions; the body finds its manager by :func:`current_scope`.
    Put it outside ``@inject``, which re-wraps what stands outside of it otherwise.

    Args:
        scopes: What opens the scopes, or something that returns it when called, such as a
            container's provider.

        name: The scopes' name; None for the function's.

    Raises:
        ConfigurationError: If *scopes* is neither, or the function is a generator, whose body
            would run after the scope closed.
    """
    refuse_marker(scopes, "scopes")
    if not isinstance(scopes, TempScopes) and not callable(scopes):
        raise ConfigurationError(f"in_scope needs a TempScopes, or a provider of one, not {scopes!r}")

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(
                f"in_scope cannot decorate the generator {function.__qualname__}: "
                "its body would run after the scope closed; open the scope inside it"
            )
        title = name or getattr(function, "__qualname__", repr(function))
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                async with _opener(scopes).open(title):
                    return await function(*args, **kwargs)

            return cast("Callable[_P, _R]", hide_markers(run_async, function))

        @functools.wraps(function)
        def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with _opener(scopes).open(title):
                return function(*args, **kwargs)

        return hide_markers(run, function)

    return decorate


def _opener(scopes: TempScopes | Callable[[], TempScopes]) -> TempScopes:
    opener = scopes if isinstance(scopes, TempScopes) else scopes()
    refuse_marker(opener, "scopes")
    if not isinstance(opener, TempScopes):
        raise ConfigurationError(f"in_scope got {opener!r} from its provider, which is no TempScopes")
    return opener
