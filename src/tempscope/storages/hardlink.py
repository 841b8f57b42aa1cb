"""
Inputs that cost nothing: a read-only input is a second name of the user's own file.
"""

from __future__ import annotations

import os

from tempscope.model import Capability
from tempscope.storages._link import Linking
from tempscope.storages.local import LocalDiskStorage
from tempscope.units import parse_size


__all__ = ["HardlinkStorage"]


class HardlinkStorage(LocalDiskStorage):
    """
    A :class:`~tempscope.LocalDiskStorage` that stages read-only inputs by hard link.

    An alias is written through to the source; therefore it is checked when the scope closes, and
    ``stage(writable=True)`` never links.
    Links need source and base directory on one file system: choose *base_dir* accordingly.
    Where linking is impossible, the input is reflinked or copied.

    Lives as long as the process needs it; shared by all its threads.

    Args:
        base_dir: As for :class:`~tempscope.LocalDiskStorage`.

        threshold: From which size, in bytes or as text such as ``"10MiB"``, an input is linked;
            smaller ones are copied.  In a directory it counts for each file.

        verify_content: Whether what was linked is also compared by its content, which is read once
            when it is staged and once when it is verified.  Without it, size, modification time and
            mode are compared, which a program can forge.

        application, sweep_on_start, background_removal, trust_locks, max_bytes: As for
            :class:`~tempscope.LocalDiskStorage`.
    """

    _capabilities = LocalDiskStorage._capabilities | {Capability.HARD_LINKS}

    def __init__(
        self,
        base_dir: str | os.PathLike[str] | None = None,
        *,
        threshold: int | str = "0B",
        verify_content: bool = False,
        application: str | None = None,
        sweep_on_start: bool = True,
        background_removal: bool = False,
        trust_locks: bool = False,
        max_bytes: int | str | None = None,
    ) -> None:
        super().__init__(
            base_dir,
            application=application,
            sweep_on_start=sweep_on_start,
            background_removal=background_removal,
            trust_locks=trust_locks,
            max_bytes=max_bytes,
        )
        size = parse_size(threshold, what="threshold", minimum=0, bare=True)
        self._threshold = size
        self._linking = Linking(size, by_content=verify_content)

    @property
    def threshold(self) -> int:
        """From how many bytes on an input is linked."""
        return self._threshold
