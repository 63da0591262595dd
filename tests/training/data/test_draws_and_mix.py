"""Everything once before anything twice; a mix keeps its share."""

from __future__ import annotations

from collections import Counter

import pytest
from training_tools import examples

from dovetail.core import InvalidValue
from dovetail.training.data import Draws, Mix


def test_an_epoch_holds_everything_once_in_another_order() -> None:
    draws, pool = Draws(0), examples(12)
    first = [e.id for _ in range(3) for e in draws.draw(pool, 4)]
    second = [e.id for _ in range(3) for e in draws.draw(pool, 4)]
    assert sorted(first) == sorted(second) == sorted(e.id for e in pool)
    assert first != second
    assert [e.id for _ in range(3) for e in Draws(0).draw(pool, 4)] != first[:1] * 12
    assert [e.id for e in Draws(1).draw(pool, 12)] != [e.id for e in Draws(0).draw(pool, 12)]


def test_weights_by_repetition_and_small_pools() -> None:
    draws, pool = Draws(0), examples(3)
    counts = Counter(e.id for _ in range(40) for e in draws.draw([pool[0], pool[0], pool[1]], 3))
    assert counts == {"e0": 80, "e1": 40}
    assert len(Draws(0).draw(pool, 7)) == 7


def test_state_goes_on_where_it_was() -> None:
    draws, pool = Draws(5), examples(10)
    draws.draw(pool, 7)
    state = draws.state_dict()
    rest = draws.draw(pool, 5)
    other = Draws(5)
    other.load_state_dict(state)
    assert other.draw(pool, 5) == rest


def test_mix() -> None:
    mixed = Mix(examples(5), ratio=0.25).examples(examples(12), 0)
    assert [e.columns["mixed"] for e in mixed] == [False] * 9 + [True] * 3
    assert len({e.id for e in mixed}) == 12
    with pytest.raises(InvalidValue, match="ratio"):
        Mix([], ratio=1.5)
    with pytest.raises(InvalidValue, match="source"):
        Mix(examples(1), ratio=0.5).examples(examples(12), 0)
