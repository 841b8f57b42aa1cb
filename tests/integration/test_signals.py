"""
Signals: the opt-in handlers let everything unwind, and the process still ends by its signal.
"""

from __future__ import annotations

import asyncio
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

KILLING = """
def kill():
    os.kill(os.getpid(), signal.SIGTERM)

install_signal_handlers()
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


FIRST_SIGNALS = {
    "a handler hidden by another error": """
        try:
            kill()
        finally:
            try:
                raise KeyError from ValueError()
            except KeyError as error:
                try:
                    raise RuntimeError from error
                except RuntimeError:
                    kill()
                    say("done")
    """,
    "a group": """
        try:
            kill()
        except SystemExit as error:
            group = BaseExceptionGroup("", [error])
        try:
            raise group
        except BaseExceptionGroup:
            kill()
            say("done")
    """,
    "a scope that was closing": """
        with scopes.open() as manager:
            manager.register_cleanup_callback(lambda: (kill(), say("done")))
            manager.register_cleanup_callback(kill)
    """,
    "a scope that closes on an event loop": """
        import asyncio

        async def main():
            try:
                async with scopes.open() as manager:
                    manager.new_file()
                    # Comes when the task waits for the files to go.
                    manager.register_cleanup_callback(asyncio.get_running_loop().call_soon, kill)
                    kill()
            except SystemExit:
                say("done")
                raise

        asyncio.run(main())
    """,
    "tasks that are cancelled": """
        import asyncio

        async def main():
            try:
                asyncio.get_running_loop().call_soon(kill)
                # Unlike one that waits for a future, this task is not told in which context it ends.
                while True:
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                kill()
                say("done")
                raise

        asyncio.run(main())
    """,
    "an exit handler": """
        def clean_up():
            kill()
            say("done")

        atexit.register(clean_up)
        kill()
    """,
    "a thread pool that is waited for": """
        from concurrent.futures import ThreadPoolExecutor

        main_ended = threading.Event()
        threading._register_atexit(main_ended.set)
        ThreadPoolExecutor().submit(lambda: main_ended.wait() and kill())
        os.dup2(1, 2)  # where it would be told that the waiting was interrupted
        atexit.register(say, "done")
        kill()
    """,
}


@pytest.mark.parametrize("what", FIRST_SIGNALS)
def test_what_a_first_signal_began_is_not_interrupted(tmp_path: Path, what: str) -> None:
    """Whatever the first signal unwinds, a second one that comes meanwhile changes nothing."""
    status, said = run(tmp_path, KILLING + textwrap.dedent(FIRST_SIGNALS[what]))

    assert (status, said) == (-signal.SIGTERM, ["done"])
    assert not files_left(tmp_path)


SWALLOWED = {
    "in a finaliser": """
        class Finalised:
            def __del__(self):
                kill()

        Finalised()
    """,
    "by the program": """
        try:
            kill()
        except SystemExit:
            pass
    """,
    "by the program, which keeps the error and its scope": """
        try:
            with scopes.open() as kept:
                kill()
        except SystemExit as error:
            kept_too = error
    """,
    "on an event loop, by a task": """
        import asyncio

        async def main():
            try:
                async with scopes.open() as kept:
                    kill()
            except SystemExit as error:
                say("swallowed")
                return error

        kept = asyncio.run(main())
    """,
}


@pytest.mark.parametrize("again", ["", "uninstall_signal_handlers(); install_signal_handlers()"])
@pytest.mark.parametrize("what", SWALLOWED)
def test_a_swallowed_signal_does_not_make_deaf(tmp_path: Path, what: str, again: str) -> None:
    """When something has swallowed what a signal raised, the next one unwinds the program again."""
    status, said = run(
        tmp_path,
        KILLING
        + textwrap.dedent(SWALLOWED[what])
        + textwrap.dedent(
            f"""
            {again}
            with scopes.open() as manager:
                manager.new_file()
                manager.register_cleanup_callback(lambda: say(manager.outcome.kind))
                kill()
                say("deaf")
            """
        ),
    )

    assert (status, said[-1]) == (-signal.SIGTERM, "cancelled")
    assert "deaf" not in said
    assert not files_left(tmp_path)


def test_a_swallowed_signal_does_not_make_a_closing_scope_deaf(tmp_path: Path) -> None:
    """A signal that comes while a scope closes is ignored for the sake of one that lives, no other."""
    status, said = run(
        tmp_path,
        KILLING
        + textwrap.dedent(
            """
            import gc

            gc.disable()
            try:
                kill()
            except SystemExit:
                pass
            with scopes.open() as manager:
                manager.register_cleanup_callback(lambda: (kill(), say("deaf")))
            say("deaf")
            """
        ),
    )

    assert (status, said) == (-signal.SIGTERM, [])


def test_of_several_signals_the_last_ends_the_process_and_each_is_handed_on(tmp_path: Path) -> None:
    """A swallowed signal still reaches the application's handler; the last that raised is the reason."""
    status, said = run(
        tmp_path,
        "signal.signal(signal.SIGTERM, lambda number, frame: say('application'))\n"
        + KILLING
        + textwrap.dedent(
            """
            for _ in range(2):
                try:
                    kill()
                except SystemExit:
                    say("swallowed")
            os.kill(os.getpid(), signal.SIGHUP)
            """
        ),
    )

    assert (status, said) == (-signal.SIGHUP, ["swallowed", "swallowed", "application"])


@pytest.mark.parametrize("loop", [False, True])
def test_uninstalling_while_a_signal_unwinds_keeps_the_exit_status(tmp_path: Path, loop: bool) -> None:
    """A ``finally`` that uninstalls the handlers changes nothing about how the process ends."""
    status, said = run(
        tmp_path,
        KILLING
        + textwrap.dedent(
            f"""
            async def work():
                import asyncio
                try:
                    asyncio.get_running_loop().call_soon(kill)
                    await asyncio.Event().wait()
                finally:
                    uninstall_signal_handlers()
                    say("unwound")

            def run():
                try:
                    kill()
                finally:
                    uninstall_signal_handlers()
                    say("unwound")

            if {loop}:
                import asyncio
                asyncio.run(work())
            run()
            """
        ),
    )

    assert (status, said) == (-signal.SIGTERM, ["unwound"])


def test_uninstalling_while_a_signal_unwinds_does_not_hide_it_from_the_application(tmp_path: Path) -> None:
    """After a ``finally`` that uninstalls the handlers, the application's own is called all the same."""
    status, said = run(
        tmp_path,
        """
        signal.signal(signal.SIGTERM, lambda number, frame: say("application"))
        install_signal_handlers()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            uninstall_signal_handlers()
            say("unwound")
        """,
    )

    assert (status, said) == (128 + signal.SIGTERM, ["unwound", "application"])


@pytest.mark.parametrize(("meanwhile", "expected"), [(False, 0), (True, -signal.SIGTERM)])
def test_installing_anew_forgets_a_signal_that_is_over(
    tmp_path: Path, meanwhile: bool, expected: int
) -> None:
    """Installing anew forgets what was swallowed before, and nothing that is still unwinding."""
    status, _ = run(
        tmp_path,
        KILLING
        + textwrap.dedent(
            f"""
            try:
                kill()
            except SystemExit:
                if {meanwhile}:
                    install_signal_handlers()
            if not {meanwhile}:
                install_signal_handlers()
            """
        ),
    )

    assert status == expected


@pytest.mark.parametrize("twice", [False, True])
def test_a_child_forked_while_a_signal_unwinds_hears_its_own(tmp_path: Path, twice: bool) -> None:
    """What its parent received neither makes a forked child deaf nor ends it."""
    status, said = run(
        tmp_path,
        KILLING
        + textwrap.dedent(
            f"""
            try:
                kill()
            finally:
                pid = os.fork()
                if not pid:
                    try:
                        for _ in range(1 + {twice}):
                            try:
                                kill()
                                say("deaf")
                            except SystemExit:
                                say("heard")
                        signal.signal(signal.SIGTERM, signal.SIG_DFL)
                    finally:
                        os._exit(0)
                say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            """
        ),
    )

    assert (status, said) == (-signal.SIGTERM, ["heard"] * (1 + twice) + ["0"])


def test_a_child_does_not_die_of_what_its_parent_received(tmp_path: Path) -> None:
    """A forked child that ends by itself is not sent a signal that its parent had swallowed."""
    status, said = run(
        tmp_path,
        KILLING
        + textwrap.dedent(
            """
            try:
                kill()
            except SystemExit:
                pass
            pid = os.fork()
            if pid:
                say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            """
        ),
    )

    assert (status, said) == (-signal.SIGTERM, ["0"])


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


def test_an_event_loops_signal_is_left_to_it(unchanged_handlers: None) -> None:
    """What ``loop.add_signal_handler`` set for a graceful end goes on working, and installing refuses."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        try:
            with pytest.raises(ConfigurationError, match="SIGTERM is handled by asyncio"):
                install_signal_handlers()
            signal.raise_signal(signal.SIGTERM)
            await asyncio.wait_for(stop.wait(), 30)
        finally:
            loop.remove_signal_handler(signal.SIGTERM)

    asyncio.run(main())


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
