"""The household's rules by hand, the task by name, files, and a model as a world."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

import dovetail
from dovetail.benchmarks.text_worlds import (
    TextWorlds,
    Transition,
    TransitionScorer,
    WorldModel,
    acts,
    after,
    household,
    told,
)
from dovetail.core import Completion, InvalidValue, UnknownName


def world() -> dict[str, dict[str, Any]]:
    return {
        "box": {"uuid": "box", "properties": {"open": False, "locked": True}, "contains": ["egg"]},
        "bag": {"uuid": "bag", "properties": {"open": True, "locked": False}, "contains": ["vase"]},
        "egg": {"uuid": "egg", "properties": {"clean": False}},
        "vase": {"uuid": "vase", "properties": {"broken": False}},
        "cup": {"uuid": "cup", "properties": {"full": True}},
        "jug": {"uuid": "jug", "properties": {"full": False}},
        "lamp": {"uuid": "lamp", "properties": {"on": False}},
    }


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (("turn on", "lamp"), {"lamp": {"on": True}}),
        (("turn off", "lamp"), {}),
        (("open", "box"), {}),
        (("unlock", "box"), {"box": {"locked": False}}),
        (("lock", "bag"), {}),
        (("close", "bag"), {"bag": {"open": False}}),
        (("fill", "cup"), {}),
        (("empty", "cup"), {"cup": {"full": False}}),
        (("pour", "cup", "jug"), {"cup": {"full": False}, "jug": {"full": True}}),
        (("pour", "jug", "cup"), {}),
        (("drop", "vase"), {}),
        (("wash", "egg"), {}),
        (("take", "egg", "box"), {}),
        (("take", "vase", "box"), {}),
        (("put", "vase", "bag"), {}),
        (("put", "vase", "box"), {}),
    ],
)
def test_what_an_action_changes(act, expected):
    before = world()
    then = after(before, act)
    assert before == world()
    for name, row in then.items():
        assert row["properties"] == before[name]["properties"] | expected.get(name, {})
        assert row.get("contains") == before[name].get("contains")


def test_things_move_break_and_are_washed():
    out = after(world(), ("take", "vase", "bag"))
    assert out["bag"]["contains"] == []
    assert after(out, ("drop", "vase"))["vase"]["properties"] == {"broken": True}
    opened = world()
    opened["box"]["properties"] = {"open": True, "locked": False}
    moved = after(opened, ("put", "vase", "box"))
    assert (moved["box"]["contains"], moved["bag"]["contains"]) == (["egg", "vase"], [])
    assert after(opened, ("wash", "egg"))["egg"]["properties"] == {"clean": True}
    assert told(("put", "vase", "box")) == "put vase in box"
    assert told(("turn on", "lamp")) == "turn on lamp"


def test_every_action_changes_at_most_two_objects():
    rng = random.Random(0)
    for _ in range(50):
        before = household(rng, 5)
        assert len(before) == 5
        for act in acts(before):
            then = after(before, act)
            changed = [name for name in before if then.get(name) != before[name]]
            assert len(changed) <= 2, (act, changed)


def test_the_share_that_changes_and_equal_seeds():
    for share in (0.0, 1.0):
        found, _ = TextWorlds(changed=share).load(20, 0)
        assert {e.columns["changed"] for e in found} == {bool(share)}
    assert TextWorlds().load(5, 3) == TextWorlds().load(5, 3)
    assert TextWorlds().load(5, 3) != TextWorlds().load(5, 4)
    assert not Transition.drawn(random.Random(0), 4, changed=False).changed


@pytest.mark.parametrize("notation", ["lines", "json"])
def test_references_are_right_and_nothing_said_only_where_nothing_changes(notation):
    found, bad = TextWorlds(notation=notation, size=30).load(None, 0)
    assert len(found) == 30
    assert not bad
    scorer = TransitionScorer(notation)
    silent = "nothing changes" if notation == "lines" else '{"modified": [], "removed": []}'
    for example in found:
        right = scorer(example, Completion(f"<think>hm</think>{example.reference}"))
        assert (right.value, right.figures["entries"]) == (1, 1)
        kind = "changed" if example.columns["changed"] else "unchanged"
        other = scorer(example, Completion(silent))
        assert other.value == other.figures[kind] == (kind == "unchanged")
        none = scorer(example, Completion("I see."))
        assert (none.value, none.parsed, none.figures[kind]) == (0, False, 0)
    assert scorer.extract("<think>a</think> b ") == "b"


def test_the_task_by_name_and_rows_of_a_file(tmp_path):
    task = dovetail.task("text-worlds:objects=4,size=3,changed=0.5")
    assert len(task.examples()[0]) == 3
    assert task.name == "text-worlds:objects=4,size=3,changed=0.5"
    state = [{"uuid": "lamp", "properties": {"on": False}}, {"score": 0}]
    then = [{"uuid": "lamp", "properties": {"on": True}}, {"score": 1}]
    rows = [
        {"state": json.dumps(state), "action": "turn on lamp", "next_state": json.dumps(then)},
        {"state": "[{}, {}]", "action": "wait", "next_state": "[]"},
        {"state": "[]", "action": "", "next_state": "[]"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    [example], bad = TextWorlds(source=str(path), notation="json").load(None, 0)
    assert example.columns["changed"]
    assert [b.line for b in bad] == [2, 3]
    said = (
        '{"modified": [{"uuid": "lamp", "properties": {"on": true}}], "removed": [], "score": {"score": 1}}'
    )
    score = TransitionScorer("json")(example, Completion(said))
    assert score.value == 1
    assert json.loads(str(example.reference)) == json.loads(said)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"notation": "yaml"}, "notation"),
        ({"objects": 2}, "objects"),
        ({"changed": 1.5}, "changed"),
        ({"size": 0}, "size"),
    ],
)
def test_impossible_worlds(given, named):
    with pytest.raises(InvalidValue, match=named):
        TextWorlds(**given)
    with pytest.raises(UnknownName):
        dovetail.task("text-worlds", object=3)


class Written:
    """A decoding that always writes the same."""

    def __init__(self, text: str) -> None:
        self.text = text

    def generate(self, engine: Any, prompts: Any, limits: Any) -> list[Completion]:
        return [Completion(self.text) for _ in prompts]


class Asked:
    engine = None

    def prompt(self, messages: Any, **given: Any) -> Any:
        self.question = messages[-1].content


def test_a_model_as_a_world():
    model: Any = Asked()
    state = [world()["lamp"], world()["cup"]]
    made = WorldModel(model, decoding=Written("lamp on=yes"))  # type: ignore[arg-type]
    then = made.predict(state, "turn on lamp")
    assert model.question == "lamp on=no\ncup full=yes\nAction: turn on lamp"
    assert then.objects["lamp"]["properties"] == {"on": True}
    assert then.objects["cup"] == world()["cup"]
    lost = WorldModel(model, decoding=Written("no idea"))  # type: ignore[arg-type]
    assert lost.predict(then, "wait") == then
    assert (made.unread, lost.unread) == (0, 1)
