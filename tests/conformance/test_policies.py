"""Every policy keeps the contract."""

from __future__ import annotations

import pytest

from tempscope import DeleteOnClose, KeepAll, KeepOnFailure
from tempscope.policies import ExpireAfter, KeepLast, SizeBudget, in_order, keep_if_all, keep_if_any
from tempscope.testing import PolicyContract

from .broken_policies import Policy


POLICIES = [
    DeleteOnClose(),
    KeepAll(),
    KeepOnFailure(),
    KeepOnFailure(on=("ok", "cancelled"), at_most=3, for_=None, up_to="1MiB"),
    KeepOnFailure(at_most=None, for_="10d", up_to=None),
    ExpireAfter("1h"),
    ExpireAfter("30d"),
    KeepLast(2),
    KeepLast(1, "name"),
    SizeBudget("1MiB"),
    SizeBudget("50GiB", first="largest"),
    keep_if_any(KeepLast(1), ExpireAfter("1h")),
    keep_if_all(KeepOnFailure(), SizeBudget("10MiB")),
    in_order(ExpireAfter("30d"), KeepLast(3), SizeBudget("1GiB")),
    Policy(),  # what the broken policies are made of
]


class TestPolicies(PolicyContract):
    @pytest.fixture(params=POLICIES, ids=repr)
    def policy(self, request):
        return request.param
