"""RLVR-World's rewards against hand-worked transitions, and on what is no prediction at all."""

from __future__ import annotations

import json

import pytest

from dovetail.core import InvalidValue
from dovetail.rewards import TransitionMetric
from dovetail.rewards.item_changes import item_change_f1
from dovetail.rewards.world_model import text_state_reward
from dovetail.rewards.world_notation import NOTATIONS, difference, mended, read_json, read_lines, write_lines
from dovetail.rewards.world_state import (
    apply_state_diff,
    changed_entries,
    changes,
    compare_states,
    parse_state,
)

BOX = {"uuid": "box", "properties": {"open": False, "locked": False}, "contains": ["egg", "pen"]}
LAMP = {"uuid": "lamp", "name": "a lamp", "properties": {"on": False}}
EGG = {"uuid": 7, "properties": {"broken": False}}
STATE = [BOX, LAMP, EGG, {"score": 0, "gameOver": False}]
OPENED = BOX | {"properties": {"open": True, "locked": False}, "contains": ["pen"]}
GOLD = [OPENED, LAMP, EGG, {"score": 1, "gameOver": False}]


def reward(diff, kind="task-specific", gold=GOLD, state=STATE):
    return text_state_reward(diff if isinstance(diff, str) else json.dumps(diff), gold, state, kind)


def test_a_perfect_difference_is_worth_most():
    diff = difference(parse_state(STATE), parse_state(GOLD))
    assert diff == {"modified": [OPENED], "removed": [], "score": {"score": 1, "gameOver": False}}
    assert reward(diff, "binary") == 1
    assert reward(diff) == pytest.approx(1.3)


def test_nothing_said_where_nothing_changes():
    empty = {"modified": [], "removed": [], "score": {}}
    assert reward(empty, "binary", STATE) == 1
    assert reward(empty, gold=STATE) == pytest.approx(0.3)
    # And where something does: 3 of 5 entries and 1 of 2 of the score are right, none of the changed.
    assert reward(empty) == pytest.approx(0.09 * 3 / 5 + 0.01 / 2)


def test_half_of_the_changes():
    half = {"modified": [BOX | {"properties": {"open": True, "locked": False}}], "removed": []}
    # 4 of 5 entries; of the two that change (open, contents) one; the score stays as it was.
    assert reward(half) == pytest.approx(0.09 * 4 / 5 + 0.01 / 2 + 1 / 2)
    assert reward(half, "binary") == 0
    no_score = [state[:-1] for state in (GOLD, STATE)]
    assert reward(half, "task-specific", *no_score) == pytest.approx(0.09 * 4 / 5 + 0.01 + 1 / 2)


def test_what_is_too_much_costs_nothing_and_new_objects_are_not_added():
    diff = difference(parse_state(STATE), parse_state(GOLD))
    more = {"uuid": "ghost", "properties": {"seen": True}}
    odd = OPENED | {"properties": {**OPENED["properties"], "red": True}}
    assert reward(diff | {"modified": [odd, more]}, "binary") == 1
    made = apply_state_diff(parse_state(STATE), diff | {"modified": [odd, more]})
    assert list(made.objects) == ["box", "lamp", "7"]


def test_a_missing_object_is_one_error():
    made = apply_state_diff(parse_state(STATE), {"modified": [], "removed": ["box"]})
    assert compare_states(made, parse_state(GOLD))[:2] == (1, 2)
    gone = apply_state_diff(parse_state(STATE), {"modified": [], "removed": [7]})
    assert list(gone.objects) == ["box", "lamp"]


def test_contents_in_any_order_lists_equal_tuples():
    state = parse_state([{"uuid": 1, "properties": {"at": (1, [2, 3])}, "contains": ["b", "a"]}])
    gold = parse_state([{"uuid": 1, "properties": {"at": [1, (2, 3)]}, "contains": ["a", "b"]}])
    assert compare_states(state, gold).exact
    assert not changes(state, gold)
    other = parse_state([{"uuid": 1, "properties": {"at": [1, [2, 4]]}, "contains": ["a"]}])
    assert len(changed_entries(state, other)) == 2


def test_a_removed_object_is_no_changed_entry():
    state, gold = parse_state(STATE[:3]), parse_state([BOX | {"contains": ["pen"]}, LAMP])
    assert [e[:2] for e in changed_entries(state, gold)] == [("box", "")]
    assert changes(state, parse_state([BOX, LAMP]))


@pytest.mark.parametrize(
    "text",
    [
        'I think so.\nThe final state is: {"modified": [], "removed": ["egg"], "score": {}}',
        'So: ```json\n{"modified": [1]}\n```\nor rather\n```json\n{"modified": [], "removed": ["egg"]}\n```',
        "{'modified': [], 'removed': ['egg'],}",
        'Well, {"modified": [], "removed": ["egg"]} is what I say.',
        '{"modified": [], "removed": ["egg"',
        "The final answer is: no\nthe final game state is: {'modified': [], \"removed\": ['egg'], 'x': None}",
    ],
)
def test_differences_are_found_and_mended(text):
    found = read_json(text)
    assert (found["modified"], found["removed"]) == ([], ["egg"])


def test_python_words_are_mended_outside_quotes_only():
    assert json.loads(mended("{'a': True, 'b': [False, None,], 'c': 'None \"so\"'}")) == {
        "a": True,
        "b": [False, None],
        "c": 'None "so"',
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "{",
        "[]",
        "null",
        '{"modified": []}',
        '{"removed": []}',
        '{"modified": 3, "removed": []}',
        '{"modified": [{}], "removed": []}',
        '{"modified": [{"uuid": "box"}], "removed": []}',
        '{"modified": [{"uuid": "box", "properties": 3}], "removed": []}',
        '{"modified": [], "removed": 7}',
        '{"modified": [], "removed": [], "score": 3}',
        "[" * 15_000,
        '{"a":' * 3_000,
        "<think>" + '{"modified": [], "removed": []}',
    ],
)
def test_what_cannot_be_read_is_paid_nothing(text):
    for kind in ("binary", "task-specific"):
        paid = TransitionMetric(kind)(["?"], [text], state=[json.dumps(STATE)], next_state=[STATE])
        assert paid == [0.0]


def test_lines_say_the_same_as_json():
    state = parse_state([BOX, LAMP, EGG | {"uuid": "egg"}])
    gold = parse_state([OPENED, LAMP])
    diff = difference(state, gold)
    text = write_lines(diff)
    assert text == "box open=yes locked=no: pen\negg is gone"
    assert read_lines(text) == diff
    assert read_lines("box open=no locked=yes: empty")["modified"][0]["contains"] == []
    assert write_lines(difference(state, state)) == "nothing changes"
    paid = TransitionMetric(notation="lines")(
        ["?"] * 3,
        [text, "nothing changes", "box open"],
        state=[list(state.objects.values())] * 3,
        next_state=[list(gold.objects.values())] * 3,
    )
    assert paid == pytest.approx([1.3, 0.09 * 2 / 4 + 0.01, 0])
    for bad in ("", "box", "box open", "box open=", "nothing changes\nlamp on=yes x", "box: egg"):
        with pytest.raises(ValueError):  # noqa: PT011
            read_lines(bad)


@pytest.mark.parametrize(
    ("gold", "named"),
    [
        ("{", "JSON"),
        ({"objects": []}, "game_state"),
        ([{"properties": {}}, LAMP], "uuid"),
        ([{"uuid": 1}], "properties"),
        ([LAMP, LAMP], "unique"),
        (7, "a list of objects"),
    ],
)
def test_a_gold_state_that_is_none_is_named(gold, named):
    with pytest.raises(InvalidValue, match=named):
        reward({"modified": [], "removed": []}, gold=gold)


def test_states_may_be_wrapped_as_the_paper_has_them():
    assert parse_state({"game_state": STATE}) == parse_state(json.dumps({"game_state": STATE}))
    assert parse_state(STATE).score == {"score": 0, "gameOver": False}


WEB = "New items:\n[1] link 'A'\n[2] link 'B'\nDeleted items:\nNone\nUpdated items:\nNone"


def test_item_f1_by_hand():
    assert item_change_f1(WEB, WEB) == {"precision": 1, "recall": 1, "f1": 1}
    said = "**New items:**\n[2] link 'B'\n[2] link 'B'\n[3] link 'C'\nDeleted items:\n[1] link 'A'"
    found = item_change_f1(said, WEB)  # 1 match; 3 different lines said, 4 true ones
    assert found == pytest.approx({"precision": 1 / 3, "recall": 1 / 4, "f1": 2 / 7})
    assert item_change_f1("[1] link 'A'", WEB)["f1"] == 0
    assert item_change_f1("", WEB)["f1"] == 0
    shuffled = "New items:\n[2] link 'B'\n[1] link 'A'\nUpdated items:\nNone\nDeleted items:\nNone"
    assert item_change_f1(shuffled, WEB)["f1"] == 1
    assert TransitionMetric("items")(["?"], ["<think>x</think>" + WEB], next_state=[WEB]) == [1]
    with pytest.raises(InvalidValue, match="heading"):
        item_change_f1(WEB, "no headings")


def test_impossible_parameters():
    with pytest.raises(InvalidValue, match="task-specific"):
        TransitionMetric("f1")
    with pytest.raises(InvalidValue, match="lines"):
        TransitionMetric(notation="yaml")
    with pytest.raises(InvalidValue, match="binary"):
        reward({}, "items")
    with pytest.raises(InvalidValue, match="next_state"):
        TransitionMetric()(["?"], ["x"], state=[STATE])
    assert set(NOTATIONS) == {"json", "lines"}
