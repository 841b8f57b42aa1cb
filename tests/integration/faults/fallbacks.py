"""
Where an error at a system call is answered without a word, and why that is right.

Each row is a documented fallback: the call as the dry run shows it, and the reason.
An error that no row names must be raised, logged as a warning, or counted in a report.
"""

from __future__ import annotations

import re

import attrs
from tests.integration.faults.injection import ERRORS, Mode, Run


@attrs.frozen
class Fallback:
    """One row: which calls, in which errors, and the reason."""

    call: str
    pattern: str
    reason: str
    errors: tuple[str, ...] = ERRORS
    phases: tuple[str, ...] = ()

    def answers(self, call: str, run: Run, mode: Mode) -> bool:
        """Whether it is about *mode* at this *call*, as *run* shows it."""
        return (
            (not self.phases or run.phase in self.phases)
            and call in self.call.split("|")
            and mode.name in self.errors
            and re.search(self.pattern, run.struck) is not None
        )


_DIRECTORY = (
    r"<[^>]*/(base|fresh|outside|products|tempscope-\d+|[iktd]-\w+|a\d+|tempscope_2|deeper|own tree|tree|sub)"
)

FALLBACKS = (
    # -- finding the base directory and the root
    Fallback(
        "newfstatat|mkdir",
        r'/\d+(/base|/fresh)?", [^"]*$',
        "makedirs looks for directories that are there, or that it then makes; opening is what counts",
    ),
    Fallback(
        "fchmod|write|close",
        r"/\.tempscope-root>",
        "the file is the mark; what it says and its mode are for people",
    ),
    # -- the sweep at start, of which the program tells when it begins and ends
    Fallback(
        "openat|newfstatat|read|fcntl|getdents64|flock|lseek|ioctl|close",
        "",
        "the sweep at start is a favour to others, for a short while: the next sweep does what it could not",
        phases=("SWEEPING",),
    ),
    # -- the lease
    Fallback("flock", r"/tempscope-\d+>", "the root's lock only keeps systemd-tmpfiles from an empty root"),
    Fallback("flock", r"/d-\w+>, LOCK_SH", "where there are no locks, no sweep removes what waits"),
    Fallback("flock", r"/i-\w+>, LOCK_SH", "busy: a sweeper was faster; another name is tried", ("EACCES",)),
    Fallback("flock", r"/i-\w+>, LOCK_EX", "busy: it counts as living, until the next sweep", ("EACCES",)),
    Fallback(
        "newfstatat",
        r'^(\d+<[^>]*/(i-\w+|journal|a\d+|[kd]-\w+|tempscope-\d+)>(\(deleted\))?, "",|4<[^>]*>, "i-\w+")',
        "whether a descriptor still is ours could not be seen: it is opened again, or left alone at the end",
    ),
    # -- the reserve of descriptors
    Fallback("openat", r'/i-\w+>, "\."', "a reserve that is not full is filled when the next scope ends"),
    # -- the owner's record
    Fallback(
        "readlink|openat|newfstatat|ioctl|lseek|read|pread64|close",
        r"/proc/self/ns/pid|/etc/machine-id|/proc/(self|\d+)/stat>|/proc/(self|\d+)/stat\"",
        "the owner's record is for people: what cannot be read is left out of it",
    ),
    Fallback("openat|read|close", r'/owner>|"owner", O_RDONLY', "the owner's record is for people"),
    # -- the journal
    Fallback("close", r"/journal>", "every line was written by a write of its own, which told"),
    Fallback(
        "write", r'/journal>, "{\\"gone\\"', "the line that told of the path is spoiled in place instead"
    ),
    # -- staging and publishing
    Fallback(
        "openat|newfstatat|ioctl|lseek|read|close",
        r"/proc/(self|\d+)/status",
        "an umask that cannot be read counts as 022",
    ),
    Fallback(
        "readlink",
        r'"/proc/self/fd/\d+"',
        "where the destination's directory, or the scope's, is now is resolved by its name instead",
    ),
    Fallback(
        "newfstatat",
        r'/outside/(source|holes|tree)", .*AT_SYMLINK_NOFOLLOW',
        "a staged source that cannot be looked at afterwards is not there to be deleted by its path either",
    ),
    Fallback(
        "newfstatat",
        r'"\.tempscope-\w+", .*AT_SYMLINK_NOFOLLOW\)',
        "whether a copy's own name is gone could not be seen: the journal keeps it, for the sweep",
    ),
    Fallback(
        "linkat",
        r'/outside/(source"|tree)',
        "what cannot be linked is reflinked, or copied; what failed for a moment is tried again",
        ("EACCES", "EIO", "ENOSPC", "EMFILE"),
    ),
    Fallback("close", r"/(source|result|copy)>", "the file was only read, or was synced before"),
    Fallback("close", r"/outside/(holes|tree(/\w+)*)>", "what is staged is only read"),
    Fallback("close", r"/own tree(/\w+)*>", "what is published was only read, and synced", phases=("TREES",)),
    # -- handing over
    Fallback(
        "openat|read|close",
        r'/d-\w+>, "\.tempscope-record"|/\.tempscope-record>',
        "what waits without a record that can be read waits on, and the report tells of it as kept",
    ),
    Fallback("close", r"/\.tempscope-(record|outside|staged)>", "it was only read"),
    Fallback(
        "unlinkat",
        r'"\.tempscope-(record|staged)", 0\)',
        "what a scope has no use for when it is attached goes with it",
    ),
    # -- registered paths
    Fallback(
        "statx",
        r'/(registered|replaced|handed)"',
        "registered without a birth time, the living process goes by device and inode, and a sweep keeps it; "
        "whether it is a staged source is known by these alone",
    ),
    Fallback("statx", r'"replaced"', "its inode is another one, which is enough: it stays and is told"),
    Fallback(
        "name_to_handle_at",
        r"registered|replaced|handed",
        "a file handle only adds to what device, inode and birth time say",
    ),
    # -- making and deleting
    Fallback(
        "openat",
        r'"(i-\w+|a\d+|tempscope-\d+)", O_RDONLY.*O_DIRECTORY',
        "a directory that its maker may not open had its mode taken by the umask: it is given back",
        ("EACCES",),
    ),
    Fallback(
        "openat2",
        r'/i-\w+>, "a\d+", ',
        "a directory that its own job shut is opened again, when it was given its mode back",
        ("EACCES",),
    ),
    Fallback(
        "fcntl|getdents64|unlinkat",
        r'/i-\w+>, (F_\w+|0x\w+, \d+\)|"(journal|owner)", 0\))|"i-\w+", AT_REMOVEDIR',
        "an instance that cannot be removed when its last storage closes is the next sweep's",
        phases=("FAILED", "TAKEN"),
    ),
    Fallback("renameat", r'"t-\w+"\)', "what cannot be moved to the trash is removed where it is"),
    Fallback("unlinkat", r'"tempscope_3.tmp", 0\)', "the deleter tries again, its own way"),
    Fallback(
        "fcntl|getdents64|newfstatat|openat2|openat",
        r'/(tempscope_2|deeper)|/a\d+/tree(/sub)?>|/a\d+>, ("[^"]*", (\{flags=)?O_RDONLY|F_|0x)'
        r'|^\d+<[^>]*/i-\w+>, ("a\d+", \{flags=O_RDONLY|F_|0x)',
        "out of descriptors: the deleter, or the reserve, gives one back, and it is done again",
        ("EMFILE",),
    ),
    Fallback("openat", r'/outside", .*O_PATH', "out of descriptors: the reserve gives one back", ("EMFILE",)),
    Fallback(
        "openat|newfstatat|write|close|renameat",
        r'[/"]\.tempscope-record\.new[>"]',
        "out of descriptors: the reserve gives one back, and the record is written again",
        ("EMFILE",),
    ),
    Fallback(
        "newfstatat",
        r'"(a\d+|own|part|leaf|twig|link|holes|evidence|source|work|tempscope_\d.*|journal|owner)", '
        r".*NOFOLLOW\)",
        "what cannot be looked at counts no bytes",
    ),
    # -- Python and the kernel
    Fallback(
        "newfstatat|ioctl|lseek",
        r"</proc/[^>]*>, |/a\d+/#\d+>",
        "Python looks what it opened, and does without",
    ),
    Fallback("close", r"</proc/[^>]*>\)", "it was only read"),
    Fallback("ioctl", "TCGETS", "Python asks whether a file is a terminal, and takes an error for no"),
    Fallback(
        "lseek", "SEEK_SET|SEEK_CUR", "Python rewinds a listing, or asks where it is, and needs no answer"
    ),
    Fallback(
        "close", _DIRECTORY + r">(\(deleted\))?\)", "nothing was written to a directory by its descriptor"
    ),
)


def excuse(call: str, run: Run, mode: Mode) -> str | None:
    """Return why nobody need be told of *mode* at this *call*, as *run* shows it; or None."""
    return next((each.reason for each in FALLBACKS if each.answers(call, run, mode)), None)
