from __future__ import annotations

import pytest

from dovetail.core import InvalidValue
from dovetail.rewards import Overlong


def test_by_hand():
    """L_max = 100, L_cache = 20: free up to 80, half at 90, all from 100 on."""
    lengths = [0, 80, 81, 90, 100, 500]
    paid = Overlong(100, 20)(["?"] * 6, ["x"] * 6, length=lengths)
    assert paid == pytest.approx([0, 0, -0.05, -0.5, -1, -1])


@pytest.mark.parametrize(
    ("field", "values"), [("max_length", (0, 20)), ("cache", (100, 0)), ("cache", (9, 10))]
)
def test_impossible_limits(field, values):
    with pytest.raises(InvalidValue, match=field):
        Overlong(*values)
