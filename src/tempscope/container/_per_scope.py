"""One instance per scope, built when first asked for and closed with the scope."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from dependency_injector import providers

from tempscope._current import as_current
from tempscope._scope import Scope
from tempscope._shield import new_lock
from tempscope.container._lifetime import Entered, enter, enter_async, is_asynchronous, must_be_awaited
from tempscope.errors import ConfigurationError, ScopeClosedError, ScopeError
from tempscope.scopes import current_scope


T = TypeVar("T")


class _Slot:
    """
    The place in one scope for the instance of one provider.

    Lives as long as the scope; shared by its threads, which hold *lock* while they build.
    """

    __slots__ = ("_async_lock", "awaited", "building", "closed", "entered", "lock", "promised")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.building = False
        self.closed = False
        self.entered: Entered | None = None
        self.awaited = False
        self.promised: Any = None
        self._async_lock: Any = None

    @property
    def async_lock(self) -> Any:
        """Held by the task that awaits the instance, while others wait for it."""
        if self._async_lock is None:
            self._async_lock = new_lock()
        return self._async_lock

    def leave(self, error: BaseException | None) -> Any:
        """Let go of the instance, then leave it; the scope calls this when it closes."""
        entered, self.entered, self.closed = self.entered, None, True
        assert entered is not None
        return entered.leave(error)


def _slot_in(owner: Scope, provider: object) -> _Slot:
    with owner._lock:
        if owner._scoped is None:
            owner._scoped = {}
        slot: _Slot | None = owner._scoped.get(provider)
        if slot is None:
            slot = owner._scoped[provider] = _Slot()
        return slot


class PerScope(providers.Factory[T]):
    """
    A provider of one instance per scope, closed with the scope and told how the job went.

    The provider lives as long as its container; shared by all threads.
    The instance lives from the first time it is asked for until its scope closes, and belongs to
    that scope's threads and tasks; racing ones receive the same.

    While it is built, :func:`~tempscope.current_scope` is the scope it is for.
    A context manager is entered when it is built, and what ``with … as`` gives is injected; it is
    left with the job's exception, which it sees and cannot swallow.
    Anything else has its ``close()`` called, if there is one.

    What has ``__aenter__`` and no ``__enter__``, or a ``close`` that must be awaited, needs a scope
    entered by ``async with``; the provider then gives an awaitable, and so does all that has it
    injected.

    Not promised: that an instance of an asynchronous kind can be used from other event loops.

    Args:
        provides: The class, or a function that makes the object.

        args: Passed on; providers among them are called first, as in ``Factory``.

        per: ``"root"`` for the whole job, the outermost scope; ``"scope"`` for the innermost.

        kwargs: Passed on likewise; for an argument called ``per``, use ``functools.partial``.

    Raises:
        ConfigurationError: If *per* is neither.
    """

    def __init__(
        self,
        provides: Callable[..., T] | str | None = None,
        *args: Any,
        per: Literal["root", "scope"] = "root",
        **kwargs: Any,
    ) -> None:
        if per not in ("root", "scope"):
            raise ConfigurationError(f"per: {per!r} is no kind of scope; allowed are 'root' and 'scope'")
        super().__init__(provides, *args, **kwargs)
        self._per = per

    def __deepcopy__(self, memo: dict[Any, Any] | None) -> PerScope[T]:
        copied = super().__deepcopy__(memo)
        # The Cython class says it returns a plain Factory.
        assert isinstance(copied, PerScope)
        copied._per = self._per
        return copied

    @property
    def per(self) -> str:
        """Which scope an instance is for: ``"root"`` or ``"scope"``."""
        return self._per

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """
        Return the instance of the current scope; the provider's ``__call__`` comes here.

        Raises:
            NoOpenScopeError: Outside of any scope.

            ScopeClosedError: If the scope is closing or closed.

            ScopeError: If the instance needs an async scope and this is none.

            ConfigurationError: If arguments were passed, which the second caller's instance could
                not heed; or if building the instance asks for itself.
        """
        if args or kwargs:
            raise ConfigurationError(
                f"{self._shown} is made once per scope and takes no arguments when it is asked for; "
                "declare them with the provider"
            )
        current = current_scope()
        owner = current._root if self._per == "root" else current
        slot = _slot_in(owner, self)
        with slot.lock:
            return self._instance(owner, slot)

    def _instance(self, owner: Scope, slot: _Slot) -> Any:
        self._check_open(owner, slot)
        if slot.awaited:
            return self._arrival(owner, slot)
        if slot.entered is None:
            built = self._build(owner, slot)
            self._check_kind(owner, type(built))
            if must_be_awaited(built) or is_asynchronous(type(built)):
                slot.awaited, slot.promised = True, built
                return self._arrival(owner, slot)
            with as_current(owner):
                slot.entered = enter(built)
            self._register(owner, slot)
        return slot.entered.value

    async def _arrival(self, owner: Scope, slot: _Slot) -> Any:
        async with slot.async_lock:
            self._check_open(owner, slot)
            if slot.entered is None:
                promised, slot.promised = slot.promised, None
                built = self._build(owner, slot) if promised is None else promised
                with as_current(owner):
                    thing = await built if must_be_awaited(built) else built
                    self._check_kind(owner, type(thing))
                    slot.entered = await enter_async(thing)
                await self._register_async(owner, slot)
            return slot.entered.value

    def _build(self, owner: Scope, slot: _Slot) -> Any:
        if slot.building:
            raise ConfigurationError(f"{self._shown} asks for itself while it is built")
        self._check_kind(owner, self.provides)
        slot.building = True
        try:
            with as_current(owner):
                return super()._provide((), {})  # type: ignore[misc]  # a hook that its stubs leave out
        finally:
            slot.building = False

    def _register(self, owner: Scope, slot: _Slot) -> None:
        try:
            owner._push_exit(slot.leave)
        except BaseException as error:
            # The scope closed meanwhile: nobody else will leave what was entered.
            slot.leave(error)
            raise

    async def _register_async(self, owner: Scope, slot: _Slot) -> None:
        assert slot.entered is not None
        if not slot.entered.asynchronous:
            self._register(owner, slot)
            return
        try:
            owner._push_exit(slot.leave, is_async=True)
        except BaseException as error:
            await slot.leave(error)
            raise

    def _check_open(self, owner: Scope, slot: _Slot) -> None:
        if slot.closed:
            raise ScopeClosedError(f"{self._shown} was closed with its scope", scope=owner._shown)

    def _check_kind(self, owner: Scope, kind: object) -> None:
        if isinstance(kind, type) and is_asynchronous(kind) and not owner._async:
            raise ScopeError(
                f"{self._shown} is left by awaiting, and the scope {owner._shown!r} was entered by 'with'; "
                "enter it by 'async with'",
                scope=owner._shown,
            )

    @property
    def _shown(self) -> str:
        return getattr(self.provides, "__qualname__", None) or repr(self.provides)
