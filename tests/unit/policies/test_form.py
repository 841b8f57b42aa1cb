"""Policies as configuration writes them."""

from __future__ import annotations

import json

import pytest

from tempscope.errors import ConfigurationError
from tempscope.model import Verdict
from tempscope.policies import (
    DeleteOnClose,
    ExpireAfter,
    KeepAll,
    KeepLast,
    KeepOnFailure,
    SizeBudget,
    in_order,
    keep_if_all,
    keep_if_any,
)
from tempscope.policies.form import policy_from, policy_to


FORMS = [
    ("delete_on_close", DeleteOnClose()),
    (" keep_all ", KeepAll()),
    ("keep_on_failure", KeepOnFailure()),
    ({"kind": "keep_on_failure"}, KeepOnFailure()),
    (
        {"kind": "keep_on_failure", "at_most": 5, "for": "3d", "up_to": "1GiB", "on": ["cancelled"]},
        KeepOnFailure(on=("cancelled",), at_most=5, for_="3d", up_to="1GiB"),
    ),
    (
        {"kind": "keep_on_failure", "at_most": "none", "for": "none", "up_to": "none", "on": None},
        KeepOnFailure(at_most=None, for_=None, up_to=None),
    ),
    ({"kind": "expire_after", "ttl": "24h"}, ExpireAfter("24h")),
    ({"kind": "keep_last", "n": 3}, KeepLast(3)),
    ({"kind": "keep_last", "n": 3, "per": "name"}, KeepLast(3, per="name")),
    ({"kind": "size_budget", "max_bytes": "1GiB", "first": "largest"}, SizeBudget("1GiB", first="largest")),
    ({"kind": "size_budget", "max_bytes": 1024, "any": None}, SizeBudget(1024)),
    ({"any": ["keep_on_failure", KeepAll()]}, keep_if_any(KeepOnFailure(), KeepAll())),
    ({"all": ("keep_on_failure", {"kind": "keep_last", "n": 1})}, keep_if_all(KeepOnFailure(), KeepLast(1))),
    (
        {"in_order": [{"any": ["keep_on_failure"]}, {"kind": "size_budget", "max_bytes": "9MB"}]},
        in_order(keep_if_any(KeepOnFailure()), SizeBudget("9MB")),
    ),
    ('{kind = "keep_on_failure", at_most = 5, for = "3d"}', KeepOnFailure(at_most=5, for_="3d")),
    (
        ' {in_order = ["keep_on_failure", {kind = "size_budget", max_bytes = "1GiB"}]} ',
        in_order(KeepOnFailure(), SizeBudget("1GiB")),
    ),
]


@pytest.mark.parametrize(("form", "policy"), FORMS)
def test_a_policy_is_its_kind_or_a_table(form, policy):
    """A policy is written as its kind or as a table, in a mapping as in text, and None is the default."""
    assert policy_from(form) == policy


@pytest.mark.parametrize("policy", [policy for _, policy in FORMS])
def test_what_is_written_is_read_back(policy):
    """The plain form of a policy is plain, also for JSON, and means the same policy."""
    form = policy_to(policy)
    assert policy_from(form) == policy
    assert policy_from(json.loads(json.dumps(form))) == policy


def test_the_plain_form_is_short_where_there_is_nothing_to_say():
    """A policy without arguments is written as its kind alone."""
    assert policy_to(DeleteOnClose()) == "delete_on_close"
    assert policy_to(keep_if_any(KeepAll(), ExpireAfter("1d"))) == {
        "any": ["keep_all", {"kind": "expire_after", "ttl": "1d"}]
    }


class Foreign:
    """Somebody else's policy."""

    may_keep = True

    def at_close(self, record):
        """Keep it."""
        return Verdict(keep=True)

    def select(self, kept, now):
        """Keep them."""
        return [self.at_close(record) for record in kept]


def test_a_foreign_policy_stays_what_it_is():
    """A policy that is not of this package, or derived from one that is, has no plain form."""
    policy = Foreign()
    assert policy_from(policy) is policy
    assert policy_to(policy) is policy
    assert policy_to(keep_if_any(policy)) == {"any": [policy]}

    class Own(DeleteOnClose):
        pass

    own = Own()
    assert policy_to(own) is own


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            "keep_on_fail",
            r"^policy cannot be 'keep_on_fail': .*'keep_on_failure'.*; did you mean 'keep_on_failure'\?$",
        ),
        ("xyz", r"^policy cannot be 'xyz': .*a list of policies$"),
        ("KeepAll", r"^policy cannot be 'KeepAll': "),
        ("", r"^policy cannot be \{'kind': ''\}: "),
        ({}, r"^policy cannot be \{\}: it must be one of "),
        ({"kind": 3}, r"^policy cannot be 3: it must be one of "),
        ({"kind": ["keep_all"]}, r"^policy cannot be \['keep_all'\]: it must be one of "),
        ({"at_most": 3}, r"^policy cannot be \{'at_most': 3\}: it must be one of "),
        (
            {"kind": "keep_on_failure", "for_": "3d"},
            r"no argument 'for_' \(given as '3d'\); 'keep_on_failure' has the arguments on, .*, up_to$",
        ),
        ({"kind": "keep_all", "n": 3}, r"no argument 'n' \(given as 3\); 'keep_all' has no arguments$"),
        ({"kind": "keep_last", "seconds": 3}, r"no argument 'seconds'.* n, per$"),
        ({"kind": "keep_last"}, r'^policy \'keep_last\': n is missing; write \{kind = "keep_last", n = …\}$'),
        ({"kind": "expire_after", "ttl": "none"}, r"^policy 'expire_after': ttl cannot be None: "),
        ({"kind": "keep_on_failure", "at_most": 0}, r"^policy 'keep_on_failure': at_most cannot be 0: "),
        ({"any": []}, r"^policy cannot be \{'any': \[\]\}: .*one key 'any' and a list"),
        ({"any": "keep_all"}, r"^policy cannot be \{'any': 'keep_all'\}: .*one key 'any' and a list"),
        ({"all": ["keep_all"], "kind": "keep_all"}, r"one key 'all' and a list"),
        (
            {"in_order": ["keep_all", {"any": ["kep_all"]}]},
            r"^policy\.in_order\[1\]\.any\[0\] cannot be 'kep_all': ",
        ),
        ({"any": [KeepAll]}, r"^policy\.any\[0\] cannot be the class KeepAll"),
        ('{kind = "keep_all"', r"that is no table in TOML \(.*\); write it like \{kind"),
        ('{kind = "keep_all"}\nother = 1', r"more follows after the table"),
        (3, r"^policy cannot be 3: it has no may_keep"),
        (None, r"^policy cannot be None: it has no may_keep"),
    ],
)
def test_what_describes_no_policy_is_refused(form, message):
    """What describes no policy raises an error that says where, what, and what is allowed."""
    with pytest.raises(ConfigurationError, match=message):
        policy_from(form)


def test_the_setting_can_have_another_name():
    """The message names the setting it is about."""
    with pytest.raises(ConfigurationError, match=r"^janitor_policy cannot be 'x'"):
        policy_from("x", what="janitor_policy")
