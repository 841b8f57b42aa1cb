"""
Scope records as JSON: written by us, read back as something a stranger may have written.

Reading is total: whatever the text, the answer is a record or None.
Sizes are capped, types are checked, and nothing in a record is ever executed or trusted as proof
of ownership; the lock and the directory's name are.
"""

from __future__ import annotations

import json
from typing import Any, cast, get_args

from tempscope.model import Instant, Outcome, OutcomeKind, Owner, ScopeRecord, Usage, Verdict


__all__ = [
    "MAX_RECORD_BYTES",
    "decode_record",
    "encode_object",
    "encode_record",
    "parse_object",
    "record_from",
    "record_to",
]

MAX_RECORD_BYTES = 128 * 1024
"""No record is longer: ten texts of a thousand characters, each of at most twelve bytes when escaped."""

_VERSION = 1
_encode = json.JSONEncoder(separators=(",", ":")).encode
_MAX_TEXT = 1_000
_MAX_NUMBER = 2**63


def encode_record(record: ScopeRecord) -> bytes:
    """Return *record* as one line of ASCII JSON."""
    return encode_object(record_to(record))


def encode_object(value: dict[str, Any]) -> bytes:
    """Return *value* as one line of ASCII JSON, without the line's end."""
    return _encode(value).encode("ascii")


def decode_record(data: bytes) -> ScopeRecord | None:
    """Return the record that *data* holds, or None if it holds none of ours."""
    value = parse_object(data)
    return None if value is None else record_from(value)


def parse_object(data: bytes) -> dict[str, Any] | None:
    """Return the JSON object that *data* is, or None if it is anything else."""
    if len(data) > MAX_RECORD_BYTES:
        return None
    try:
        value = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def record_to(record: ScopeRecord) -> dict[str, Any]:
    """Return *record* as a JSON object; where it stands and who holds it are not part of it."""
    value: dict[str, Any] = {
        "v": _VERSION,
        "token": record.token,
        "application": record.application[:_MAX_TEXT],
        "opened": _from_instant(record.opened),
        "never_closed": _from_verdict(record.never_closed),
    }
    for key in ("name", "label", "parent"):
        text = getattr(record, key)
        if text is not None:
            value[key] = text[:_MAX_TEXT]
    if record.closed is not None:
        value["closed"] = _from_instant(record.closed)
    if record.outcome is not None:
        value["outcome"] = [record.outcome.kind, record.outcome.error and record.outcome.error[:_MAX_TEXT]]
    if record.usage is not None:
        usage = record.usage
        value["usage"] = [usage.files, usage.directories, usage.bytes, usage.freeable_bytes]
    if record.verdict is not None:
        value["verdict"] = _from_verdict(record.verdict)
    if record.owner is not None:
        owner = record.owner
        value["owner"] = [owner.pid, owner.boot_id, owner.pid_namespace, owner.host, owner.started]
    return value


def record_from(value: dict[str, Any]) -> ScopeRecord | None:
    """Return the record that the JSON object *value* describes, or None."""
    try:
        if value["v"] != _VERSION:
            return None
        return ScopeRecord(
            token=_text(value["token"]),
            application=_text(value["application"]),
            name=_text_or_none(value.get("name")),
            label=_text_or_none(value.get("label")),
            parent=_text_or_none(value.get("parent")),
            opened=_to_instant(value["opened"]),
            closed=_to_instant(value["closed"]) if "closed" in value else None,
            outcome=_to_outcome(value["outcome"]) if "outcome" in value else None,
            usage=Usage(*map(_count, _items(value["usage"], 4))) if "usage" in value else None,
            never_closed=_to_verdict(value["never_closed"]),
            verdict=_to_verdict(value["verdict"]) if "verdict" in value else None,
            owner=_to_owner(value["owner"]) if "owner" in value else None,
        )
    except (KeyError, TypeError, ValueError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _from_instant(instant: Instant) -> list[Any]:
    return [instant.wall, instant.boot, instant.boot_id]


def _from_verdict(verdict: Verdict) -> list[Any]:
    # A time beyond all numbers is no limit at all.
    times = [
        t if t is not None and abs(t) <= _MAX_NUMBER else None for t in (verdict.until, verdict.for_seconds)
    ]
    return [bool(verdict.keep), verdict.reason[:_MAX_TEXT], *times]


def _to_instant(value: Any) -> Instant:
    wall, boot, boot_id = _items(value, 3)
    return Instant(_number(wall), _number(boot), _text(boot_id))


def _to_verdict(value: Any) -> Verdict:
    keep, reason, until, for_seconds = _items(value, 4)
    if not isinstance(keep, bool):
        raise TypeError(keep)
    return Verdict(keep, _text(reason), _number_or_none(until), _number_or_none(for_seconds))


def _to_outcome(value: Any) -> Outcome:
    kind, error = _items(value, 2)
    if kind not in get_args(OutcomeKind):
        raise ValueError(kind)
    return Outcome(cast(OutcomeKind, kind), error=_text_or_none(error))


def _to_owner(value: Any) -> Owner:
    pid, boot_id, namespace, host, started = _items(value, 5)
    return Owner(
        pid=_count(pid),
        boot_id=_text(boot_id),
        pid_namespace=_text(namespace),
        host=_text(host),
        started=_count(started),
    )


def _items(value: Any, length: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise TypeError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise TypeError(value)
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(value)
    if not abs(value) <= _MAX_NUMBER:  # nor is NaN
        raise ValueError(value)
    return float(value)


def _number_or_none(value: Any) -> float | None:
    return None if value is None else _number(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_NUMBER:
        raise TypeError(value)
    return value
