"""Names that guard something: 128 random bits from the system, in lower-case base32."""

from __future__ import annotations

import base64
import os
import re


__all__ = ["is_token", "new_token"]

_PATTERN = re.compile(r"[a-z2-7]{26}")


def new_token() -> str:
    """Return a fresh token; works on file systems that fold case or normalise Unicode."""
    return base64.b32encode(os.urandom(16)).decode("ascii")[:26].lower()


def is_token(text: str) -> bool:
    """Return whether *text* has the shape of a token."""
    return _PATTERN.fullmatch(text) is not None
