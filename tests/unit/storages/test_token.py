"""Names that guard something."""

from __future__ import annotations

import collections
import os

from hypothesis import given
from hypothesis import strategies as st

from tempscope.storages._token import is_token, new_token


def test_a_token_is_128_bits_of_the_system_in_letters_that_every_file_system_keeps(mocker):
    """
    Row 102: tokens are lower-case ASCII; row 36: all their bits come from the system's generator.

    Security rule 2.
    """
    random = mocker.spy(os, "urandom")
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(is_token(token) and token == token.casefold() and token.isascii() for token in tokens)
    assert random.call_args_list == [mocker.call(26)] * 100


def test_no_letter_of_a_token_is_likelier_than_another(mocker):
    """Security rule 2: each of the 32 letters comes from as many of a byte's 256 values."""
    mocker.patch.object(os, "urandom", side_effect=[bytes([value] * 26) for value in range(256)])
    letters = collections.Counter(letter for _ in range(256) for letter in set(new_token()))
    assert len(letters) == 32
    assert set(letters.values()) == {8}


@given(st.text())
def test_other_text_is_no_token(text):
    """Nothing of another shape is taken for a token."""
    assert not is_token(text)
    assert not is_token(new_token() + text + "!")
    assert not is_token(new_token().upper())
