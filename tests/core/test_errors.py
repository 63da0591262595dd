"""Errors cross process borders whole."""

import pickle

import pytest

from dovetail.core import InvalidValue, MissingExtra, NotReachable, UnknownName


@pytest.mark.parametrize(
    "error",
    [
        InvalidValue("n", 0, "at least 1"),
        UnknownName("model", "picoo", ["pico", "gemma"]),
        MissingExtra("ray", "ray"),
        NotReachable("no server at this address"),
    ],
)
def test_a_pickled_error_is_the_same_error(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_each_suggestion_is_made_once():
    error = UnknownName("arm", "nothing", ["soft-thinking", "soft-thinking", "greedy"])
    assert str(error) == "unknown arm 'nothing': did you mean soft-thinking?"
    assert str(UnknownName("arm", "x", ["b", "a", "b"])) == "unknown arm 'x': known: a, b"
