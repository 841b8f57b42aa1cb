"""
Signals: the opt-in handlers let everything unwind, and the process still ends by its signal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from tempscope import ConfigurationError, signals
from tempscope.signals import install_signal_handlers, uninstall_signal_handlers


PRELUDE = """
import atexit, os, signal, sys, threading
from tempscope import LocalDiskStorage, TempScopes
from tempscope.signals import install_signal_handlers, uninstall_signal_handlers

def say(text):
    os.write(1, f"{text}\\n".encode())

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it, as nohup does
scopes = TempScopes(LocalDiskStorage(sys.argv[1]))
"""


def run(tmp_path: Path, program: str, environment: dict[str, str] | None = None) -> tuple[int, list[str]]:
    """Run *program* to its end; return its status (negative: the signal) and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    return done.returncode, done.stdout.split()


def files_left(tmp_path: Path) -> list[Path]:
    """Return the scopes' files that are still there."""
    return [path for path in tmp_path.rglob("*") if path.parent.name.startswith("a")]


@pytest.fixture
def unchanged_handlers() -> Iterator[None]:
    """Put all handlers back after a test that sets some."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    uninstall_signal_handlers()
    for number, handler in before.items():
        signal.signal(number, handler)


ENDING_BY_SIGNAL = """
atexit.register(say, "exit-handlers-ran")
install_signal_handlers()
with scopes.open("job") as manager:
    manager.new_file()
    manager.register_cleanup_callback(lambda: say(manager.outcome.kind))
    os.kill(os.getpid(), signal.{name})
    threading.Event().wait()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_closes_the_scopes_and_stays_the_exit_status(tmp_path: Path, name: str) -> None:
    """
    Trap 20: SIGTERM runs no finally.

    With the handlers the scope closes as cancelled, exit handlers run, and whoever waits still sees the
    signal.
    """
    status, said = run(tmp_path, ENDING_BY_SIGNAL.format(name=name))

    assert status == -getattr(signal, name)
    assert said == ["cancelled", "exit-handlers-ran"]
    assert not files_left(tmp_path)


def test_without_the_handlers_nothing_unwinds(tmp_path: Path) -> None:
    """The handlers are opt-in: a program that did not ask for them dies on the spot, leaving files."""
    program = ENDING_BY_SIGNAL.format(name="SIGTERM").replace("install_signal_handlers()", "")

    status, said = run(tmp_path, program)

    assert status == -signal.SIGTERM
    assert said == []
    assert files_left(tmp_path)


def test_the_applications_own_handler_runs_after_everything_has_unwound(tmp_path: Path) -> None:
    """Trap 21: a library's handler hides the application's. Ours hands the signal on to it."""
    program = "signal.signal(signal.SIGTERM, lambda number, frame: say('application'))\n"

    status, said = run(tmp_path, program + ENDING_BY_SIGNAL.format(name="SIGTERM"))

    assert said == ["cancelled", "exit-handlers-ran", "application"]
    assert status == 128 + signal.SIGTERM


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """What nohup asked for stands: a signal that is ignored does not unwind the program."""
    status, said = run(
        tmp_path,
        """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        install_signal_handlers()
        os.kill(os.getpid(), signal.SIGHUP)
        say("still-here")
        """,
    )

    assert (status, said) == (0, ["still-here"])


def test_a_second_signal_does_not_cut_the_unwinding_short(tmp_path: Path) -> None:
    """While the first signal unwinds the program, another one changes nothing."""
    status, said = run(
        tmp_path,
        """
        install_signal_handlers()
        with scopes.open("job") as manager:
            manager.new_file()
            manager.register_cleanup_callback(say, "last")
            manager.register_cleanup_callback(os.kill, os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait()
        """,
    )

    assert (status, said) == (-signal.SIGTERM, ["last"])
    assert not files_left(tmp_path)


def test_a_storm_of_signals_while_threads_work_does_not_deadlock(tmp_path: Path) -> None:
    """
    Trap 22: a lock or logging in the handler deadlocks.

    Ours does nothing but raise, and the files of threads that were working are gone too once the process
    ended.
    """
    status, _ = run(
        tmp_path,
        """
        install_signal_handlers()
        stop = threading.Event()
        started = threading.Barrier(5)

        def work():
            with scopes.open() as manager:
                manager.new_file()
                started.wait()
                while not stop.is_set():
                    with manager.create_temp_file():
                        pass

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        try:
            with scopes.open() as manager:
                for _ in range(50):
                    os.kill(os.getpid(), signal.SIGTERM)
                    with manager.create_temp_file():
                        pass
        finally:
            stop.set()
        """,
    )

    assert status == -signal.SIGTERM
    assert not files_left(tmp_path)


def test_uninstalling_puts_back_what_was_there(unchanged_handlers: None) -> None:
    """Installing, also twice, and uninstalling leaves all handlers as found."""

    def application(number: int, frame: FrameType | None) -> None:
        """Be somebody's handler."""

    signal.signal(signal.SIGTERM, application)
    install_signal_handlers()
    install_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) is signals._handle

    uninstall_signal_handlers()

    assert signal.getsignal(signal.SIGTERM) is application


def test_uninstalling_leaves_a_handler_that_came_later(unchanged_handlers: None) -> None:
    """A handler that somebody set after ours is not ours to take away."""
    install_signal_handlers()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    uninstall_signal_handlers()

    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_a_frameworks_signal_is_left_to_it(unchanged_handlers: None) -> None:
    """Where a server framework ends its workers itself, installing refuses and changes nothing."""

    def handle(number: int, frame: FrameType | None) -> None:
        """Be the framework's handler."""

    handle.__module__ = "gunicorn.arbiter"
    signal.signal(signal.SIGHUP, handle)
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(ConfigurationError, match=r"SIGHUP is handled by gunicorn\.arbiter"):
        install_signal_handlers()

    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("call", [install_signal_handlers, uninstall_signal_handlers])
def test_only_the_main_thread_sets_handlers(call: object) -> None:
    """Another thread gets a clear error instead of the interpreter's."""
    caught: list[BaseException] = []

    def attempt() -> None:
        try:
            call()  # type: ignore[operator]
        except ConfigurationError as error:
            caught.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()

    assert "main thread" in str(caught[0])


def test_importing_changes_nothing_of_the_process(tmp_path: Path) -> None:
    """
    Security rule 16: importing changes nothing.

    It installs no handler, starts no thread, and changes no directory, umask or environment.
    """
    status, said = run(
        tmp_path,
        """
        import subprocess
        program = '''
        import os, signal, threading
        def state():
            umask = os.umask(0o22); os.umask(umask)
            return ([signal.getsignal(n) for n in signal.valid_signals()], threading.enumerate(), os.getcwd(),
                    umask, dict(os.environ))
        before = state()
        import tempscope, tempscope.signals, tempscope.container, tempscope.settings
        assert state() == before
        '''
        import textwrap
        say(subprocess.run([sys.executable, "-c", textwrap.dedent(program)]).returncode)
        """,
        dict(os.environ),
    )

    assert (status, said) == (0, ["0"])


@pytest.mark.parametrize(
    ("received", "finalizing", "sent"),
    [([15], True, [("handler", 15), ("kill", 7, 15)]), ([15], False, []), ([], True, [])],
)
def test_the_last_breath(received: list[int], finalizing: bool, sent: list[tuple[object, ...]]) -> None:
    """The signal is sent again when the interpreter takes itself apart, and only then."""
    done: list[tuple[object, ...]] = []

    signals._LastBreath.__del__(
        signals._last_breath,
        received,
        {15: signal.SIG_DFL},
        lambda number, handler: done.append(("handler", number)),
        lambda pid, number: done.append(("kill", pid, number)),
        lambda: 7,
        signal.SIG_DFL,
        lambda: finalizing,
    )

    assert done == sent
