"""Names that guard something: at least 128 random bits from the system, in lower-case base32."""

from __future__ import annotations

import os
import re


__all__ = ["is_token", "new_token"]

# A byte gives the five bits of one character, each as likely as the others.
_CHARACTERS = bytes(b"abcdefghijklmnopqrstuvwxyz234567"[byte % 32] for byte in range(256))
_PATTERN = re.compile(r"[a-z2-7]{26}")


def new_token() -> str:
    """Return a fresh token; works on file systems that fold case or normalise Unicode."""
    return os.urandom(26).translate(_CHARACTERS).decode("ascii")


def is_token(text: str) -> bool:
    """Return whether *text* has the shape of a token."""
    return _PATTERN.fullmatch(text) is not None
