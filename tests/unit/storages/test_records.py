"""Scope records as JSON: whatever was written by us is read; whatever was not is None."""

from __future__ import annotations

import json
import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempscope.model import Instant, Outcome, Owner, ScopeRecord, Usage, Verdict
from tempscope.storages._records import (
    MAX_RECORD_BYTES,
    decode_record,
    encode_record,
    parse_object,
    record_from,
    record_to,
)


FULL = ScopeRecord(
    token="t" * 26,
    name="job",
    label="kind",
    application="app",
    parent="p" * 26,
    opened=Instant(1.5, 2.5, "boot"),
    closed=Instant(3.0, 4.0, "boot"),
    outcome=Outcome("failed", error="ValueError: no"),
    usage=Usage(1, 2, 3, 4),
    never_closed=Verdict(True, "evidence", 5.0, 6.0),
    verdict=Verdict(False, "why", None, 7.0),
    owner=Owner(pid=1, boot_id="b", pid_namespace="n", host="h", started=2),
)
TEXT = st.text(max_size=1_000)
TIME = st.floats(-1e12, 1e12)
INSTANTS = st.builds(Instant, TIME, TIME, TEXT)
VERDICTS = st.builds(Verdict, st.booleans(), TEXT, st.none() | TIME, st.none() | TIME)
COUNT = st.integers(0, 2**63 - 1)
RECORDS = st.builds(
    ScopeRecord,
    token=TEXT,
    name=st.none() | TEXT,
    label=st.none() | TEXT,
    application=TEXT,
    parent=st.none() | TEXT,
    opened=INSTANTS,
    closed=st.none() | INSTANTS,
    outcome=st.none()
    | st.builds(Outcome, st.sampled_from(["ok", "failed", "retry", "cancelled"]), error=st.none() | TEXT),
    usage=st.none() | st.builds(Usage, COUNT, COUNT, COUNT, COUNT),
    never_closed=VERDICTS,
    verdict=st.none() | VERDICTS,
)


def test_a_record_is_read_as_it_was_written():
    """All that belongs to a record comes back; one line of ASCII, no secrets in between."""
    data = encode_record(FULL)
    assert decode_record(data) == FULL
    assert decode_record(data).owner == FULL.owner
    assert data.isascii()
    assert b"\n" not in data


@given(RECORDS)
def test_every_record_is_read_as_it_was_written(record):
    """Whatever texts and numbers a record has, it fits and is read back equal."""
    data = encode_record(record)
    assert len(data) <= MAX_RECORD_BYTES
    assert decode_record(data) == record


def test_the_longest_texts_fit():
    """Texts of any length and any characters are cut so that the record can be read back."""
    long = "\U0001f4a9" * 5_000
    record = attrs.evolve(
        FULL,
        token="t",
        name=long,
        label=long,
        application=long,
        outcome=Outcome("failed", error=long),
        never_closed=Verdict(True, long),
        verdict=Verdict(True, long),
    )
    data = encode_record(record)
    assert len(data) <= MAX_RECORD_BYTES
    assert decode_record(data).name == long[:1_000]


@pytest.mark.parametrize("time", [math.inf, -math.inf, math.nan, 1e300])
def test_a_time_beyond_all_numbers_is_no_limit(time):
    """
    A policy that keeps until infinity keeps until somebody decides otherwise.

    The record stays readable.
    """
    record = attrs.evolve(FULL, verdict=Verdict(True, "for ever", time, time))
    assert decode_record(encode_record(record)).verdict == Verdict(True, "for ever")


WRONG = [
    ("v", 2),
    ("v", None),
    ("token", 5),
    ("token", "x" * 1_001),
    ("application", None),
    ("name", 1),
    ("label", []),
    ("opened", None),
    ("opened", [1, 2]),
    ("opened", [1, 2, 3]),
    ("opened", ["1", 2, ""]),
    ("opened", [True, 2, ""]),
    ("opened", [10**400, 2, ""]),
    ("opened", [-(10**30), 2, ""]),
    ("opened", {"wall": 1}),
    ("closed", None),
    ("outcome", ["dead", None]),
    ("outcome", [["failed"], None]),
    ("outcome", ["failed", 1]),
    ("usage", [1, 2, 3]),
    ("usage", [1, 2, 3, -1]),
    ("usage", [1, 2, 3, True]),
    ("usage", [1, 2, 3, 2**63]),
    ("usage", [1, 2, 3, 1.5]),
    ("never_closed", [1, "", None, None]),
    ("never_closed", [True, "", "soon", None]),
    ("verdict", "keep"),
    ("owner", [-1, "", "", "", 0]),
    ("owner", ["1", "", "", "", 0]),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_type_or_schema_makes_no_record(key, value):
    """Row 103: one wrong value, or another schema, and there is no record: nothing is guessed."""
    assert record_from({**record_to(FULL), key: value}) is None


@pytest.mark.parametrize("pid", [0, 1, 2**40])
def test_pids_are_only_numbers(pid):
    """Row 103: a pid of 0, 1 or none at all is read as a number and never acted on."""
    value = {**record_to(FULL), "owner": [pid, "", "", "", 0]}
    assert record_from(value).owner.pid == pid


@pytest.mark.parametrize("key", ["v", "token", "application", "opened", "never_closed"])
def test_what_a_record_must_have(key):
    """Row 14: a record from which a part is missing is none."""
    value = record_to(FULL)
    del value[key]
    assert record_from(value) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b"[" * 100_000,
        b'{"a":' * 25_000,
        b"9" * 6_000,
        b" " * (MAX_RECORD_BYTES + 1),
        json.dumps({"a": "x" * MAX_RECORD_BYTES}).encode(),
    ],
)
def test_what_is_no_object_of_ours_is_none(data):
    """Row 103: anything but a JSON object within the size is None, without an error."""
    assert parse_object(data) is None
    assert decode_record(data) is None


@given(st.binary(max_size=500))
def test_any_bytes_have_an_answer(data):
    """Row 103: reading is total."""
    assert decode_record(data) is None
