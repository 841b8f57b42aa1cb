"""
One instance for each root: made by the first who needs it, shared by the storages of a process.

What a fork inherited is let go of, and what is left at the end of the process is removed, here.
"""

from __future__ import annotations

import errno
import os
import threading

import attrs

from tempscope import _log
from tempscope.errors import ForkedScopeError, StorageError
from tempscope.storages import _lock, _reserve
from tempscope.storages._at_exit import LAST_STEPS
from tempscope.storages._background import wait_for_all
from tempscope.storages._delete import remove_entry
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._failure import storage_error
from tempscope.storages._instance import Instance, identity_of, is_named
from tempscope.storages._owner import write_unlocked
from tempscope.storages._root import Root, find_root, make_private_directory, open_root
from tempscope.storages._token import new_token


__all__ = ["instance_for", "instance_here", "leave", "leave_all", "let_go_of_inherited"]

_ATTEMPTS = 64
_EXIT_SECONDS = 10.0


@attrs.define(eq=False)
class _Registry:
    """
    The instances of this process.

    Lives as long as the process; shared by all its threads.
    """

    instances: dict[tuple[int, int], Instance] = attrs.Factory(dict)
    lock: threading.RLock = attrs.Factory(threading.RLock)
    pid: int = attrs.Factory(os.getpid)
    creating: list[Descriptor] = attrs.Factory(list)


_registry = _Registry()


def instance_for(base_dir: str | None, user: int = 0) -> tuple[Instance, bool]:
    """
    Return this process's instance under the root in *base_dir*, and whether it was made for this call.

    The caller is one of its users from now on, until it calls :func:`leave`.

    Raises:
        StorageError: If the base directory is unusable, or there is no room.
    """
    let_go_of_inherited()
    try:
        return _join(base_dir, user)
    except (FileNotFoundError, StorageError) as error:
        if error.errno != errno.ENOENT:
            raise
    # A cleaner may remove an empty root between our opening it and our using it.
    return _join(base_dir, user)


def instance_here(base_dir: str | None) -> Instance | None:
    """
    Return this process's instance under the root in *base_dir*; None if nobody made one, and none is made.

    Raises:
        BaseDirectoryError: If the root cannot be ours.
    """
    let_go_of_inherited()
    root = find_root(base_dir)
    if root is None:
        return None
    root.close()
    return _registry.instances.get(root.identity)


def _join(base_dir: str | None, user: int) -> tuple[Instance, bool]:
    pid = os.getpid()
    root = open_root(base_dir)
    with _registry.lock:
        instance = _registry.instances.get(root.identity)
        made = instance is None or instance.lost
        if instance is None or instance.lost:
            instance = _make_registered(root, pid)
        instance.users.add(user)
    if not made:
        root.close()
    return instance, made


def _make_registered(root: Root, pid: int) -> Instance:
    # Known before it is whole: in a child that is forked meanwhile the hook closes these, so that
    # no later step there reaches what the parent is making.
    _registry.creating = [root.descriptor]
    try:
        instance = _make(root)
        if os.getpid() != pid:
            instance.let_go()
            raise _forked(pid)
        _registry.instances[root.identity] = instance
        _reserve.fill(instance.fd)
    except (OSError, ValueError) as error:
        root.close()
        if os.getpid() != pid:
            raise _forked(pid) from error
        if isinstance(error, StorageError) or not isinstance(error, OSError):
            raise
        raise _not_made(root, error) from error
    finally:
        _registry.creating = []
    return instance


def _forked(pid: int) -> ForkedScopeError:
    return ForkedScopeError(
        f"process {pid} was forked while it made its directory: open a scope in this process"
    )


def _not_made(root: Root, error: OSError) -> StorageError:
    if isinstance(error, StorageError):
        return error
    return storage_error(error, f"no directory can be made in {root.path!r}", path=root.path)


def _make(root: Root) -> Instance:
    pid = os.getpid()
    for _ in range(_ATTEMPTS):
        token = new_token()
        name = f"i-{token}"
        try:
            descriptor = make_private_directory(root.fd, name)
        except FileExistsError:
            continue
        except FileNotFoundError:
            if not os.fstat(root.fd).st_nlink:
                raise
            # A sweeper was between our mkdir and our open.
            continue
        state = _lock.share(descriptor.fd)
        if state != "busy" and is_named(root.fd, name, identity_of(descriptor.fd)):
            _tell_made(root, name, state)
            return _fill(root, token, descriptor, pid, leased=state == "held")
        # A sweeper was between our mkdir and our lock; the directory is its now.
        descriptor.close()
    raise StorageError(f"no directory in {root.path!r} could be locked", errno=errno.EAGAIN, path=root.path)


def _tell_made(root: Root, name: str, state: _lock.LockState) -> None:
    _log.debug("instance made", path=f"{root.path}/{name}", lease=state)
    if state == "unsupported":
        _log.warn("the file system has no locks: what this process leaves in a crash, a sweep only reports")


def _fill(root: Root, token: str, descriptor: Descriptor, pid: int, *, leased: bool) -> Instance:
    _registry.creating.append(descriptor)
    if os.getpid() != pid:
        raise _forked(pid)
    try:
        if not leased:
            write_unlocked(descriptor.fd)
        return Instance(root, token, descriptor)
    except OSError as error:
        if os.getpid() != pid:
            # The directory is the parent's.
            raise _forked(pid) from error
        # What room there was must be told before our own beginnings make some.
        told = _not_made(root, error)
        remove_entry(root.fd, f"i-{token}")
        # Not with the traceback: until then its inode would not be free.
        descriptor.close()
        if told is error:
            raise
        raise told from error


def leave(instance: Instance, user: int = 0) -> None:
    """Let *user* stop using *instance*; the last user removes it.  Leaving twice is not an error."""
    if instance.pid != os.getpid():
        return
    with _registry.lock:
        if instance.users <= {user}:
            # Done again by the next call if an interrupt cuts it short: the user is still known.
            instance.remove()
            # It may stand in this directory, whose file system somebody may want to unmount.
            _reserve.give_all_back()
            _registry.instances.pop(instance.root.identity, None)
        instance.users.discard(user)


def leave_all(user: int) -> None:
    """Let *user* stop using whatever it uses, also what an interrupt kept it from knowing."""
    for instance in list(_registry.instances.values()):
        if user in instance.users:
            leave(instance, user)


def let_go_of_inherited() -> None:
    """After a fork: close what was inherited, and start anew; does nothing otherwise."""
    pid = os.getpid()
    if pid == _registry.pid:
        return
    # Another thread of the parent may have held the lock; nobody here ever would release it.
    _registry.lock = threading.RLock()
    _registry.pid = pid
    _reserve.give_all_back()
    while _registry.creating:
        _registry.creating.pop().close()
    while _registry.instances:
        _registry.instances.popitem()[1].let_go()


def _remove_at_exit() -> None:
    """At interpreter exit, after all scopes were closed: leave no empty directory behind."""
    if _registry.pid != os.getpid():
        return
    for instance in list(_registry.instances.values()):
        try:
            instance.remove()
        except Exception as error:
            _log.warn("an instance directory stays for the sweep", error=type(error).__name__)


# A platform without fork has nothing to register.
getattr(os, "register_at_fork", lambda **_: None)(after_in_child=let_go_of_inherited)
LAST_STEPS.callback(_remove_at_exit)
# Before the instances go: the last put by runs first.
LAST_STEPS.callback(wait_for_all, _EXIT_SECONDS)
