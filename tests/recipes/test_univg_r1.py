"""What the recipe draws, shows its model and computes, by hand."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from dovetail.core import Limits
from dovetail.recipes.shapes import COLOURS, KINDS, LARGE, SIDE, SMALL, Shape, draw, item, items, seen
from dovetail.recipes.sighted import LABELS, PATCHES, sighted, told
from dovetail.recipes.sighted import Shape as Size
from dovetail.recipes.univg_r1 import PLAIN, PRACTICE, WEIGHTED, Answers, Pulls, claims
from dovetail.rewards import BoxFormat, BoxIoU

# --- images ---------------------------------------------------------------------------------------------


def test_a_shape_and_its_box():
    shape = Shape(4, 0, 4, "red", "frame")
    assert shape.box == (250, 0, 500, 250)
    image = draw([shape], seed=0)
    red = (image == np.asarray(COLOURS["red"], dtype=np.uint8)[:, None, None]).all(0)
    assert red[0:4, 4:8].sum() == 12  # a frame of four by four
    assert red.sum() == 12
    assert image[:, 4:].max() < 50
    assert (draw([shape], seed=0) == image).all()
    assert (draw([shape], seed=1) != image).any()


@pytest.mark.parametrize("size", range(SMALL[0], LARGE[1] + 1))
def test_kinds_look_different_and_fill_their_boxes(size):
    masks = [Shape(0, 0, size, "red", kind).mask() for kind in KINDS]
    assert len({mask.tobytes() for mask in masks}) == len(KINDS)
    for mask in masks:
        assert all(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


def test_what_patches_show():
    made = seen([Shape(3, 0, 5, "green", "cross"), Shape(0, 8, 3, "red", "square")], 4)
    green, red = [2, KINDS.index("cross"), 3, 0, 8, 5], [1, 0, 0, 8, 3, 11]
    # The green one begins at the last column of the first patches, and ends at the first row of the second.
    expected = {0: green, 1: green, 4: green, 5: green, 8: red}
    assert made.tolist() == [expected.get(i, [0] * 6) for i in range(16)]


def looks(image: Any, colour: str) -> bool:
    return bool((image == np.asarray(COLOURS[colour], dtype=np.uint8)[:, None, None]).all(0).any())


def test_questions_have_one_answer_and_hard_ones_need_the_first_image():
    rng = random.Random(0)
    relations = set()
    for turn in range(60):
        made = item(rng, hard=bool(turn % 2))
        first, second = ({c for c in COLOURS if looks(image, c)} for image in made.images)
        assert len(first) == 1
        assert made.target.colour in second
        assert len(second) == (3 if made.hard else 2)
        if not made.hard:
            assert made.question == f"find the {made.target.colour} {made.target.kind}"
            assert made.target.size >= 6
            continue
        relations.add(made.question)
        assert made.target.size <= 5
        # By colour, the first image's shape has the target's; by kind, it has no colour of the second's.
        assert first & second == ({made.target.colour} if made.question.endswith("colour") else set())
    assert relations == {"find the same colour", "find the same kind"}


def test_the_thought_of_a_hard_question_begins_with_the_first_image():
    easy, hard = items("thoughts", 2)
    asked = easy.question.removeprefix("find the ")
    assert easy.completion.startswith(f"<think>{asked}</think><answer>(")
    [model], target = hard.shown[0], hard.target
    assert target in hard.shown[1]
    thought = f"{model.colour} {model.kind}: {target.colour} {target.kind}"
    assert hard.completion.startswith(f"<think>{thought}</think><answer>(")


def test_what_is_practised_is_paid_in_full():
    examples = [one.example(f"e{i}", 2 * i) for i, one in enumerate(items("a", 6))]
    texts, boxes = [e.columns["completion"] for e in examples], [e.columns["box"] for e in examples]
    assert BoxIoU()(["?"] * 6, texts, box=boxes) == [1.0] * 6
    assert BoxFormat()(["?"] * 6, texts) == [1.0] * 6
    assert [e.columns["hard"] for e in examples] == [False, True] * 3
    assert examples[1].question.startswith("image 1 <image 2> image 2 <image 3> find the same")
    assert items("a", 6)[3].question == items("a", 6)[3].question


# --- the model ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeing() -> Any:
    made = items("seeing", 4)
    examples = [one.example(f"e{i}", 2 * i) for i, one in enumerate(made)]
    texts = [t for e in examples for t in (e.question, e.columns["completion"])]
    model = sighted([p for one in made for p in one.images], texts, Size(1, 24, 2, 32), seed=0)
    return model, examples


def test_images_stand_in_prompts_as_patches(seeing):
    model, examples = seeing
    words = len(model.tokenizer)
    ids = model.prompt(examples[1].messages).ids
    patches = [i - words for i in ids if i >= words]
    assert patches == list(range(2 * PATCHES, 4 * PATCHES))
    written = model.tokenizer.encode(examples[1].columns["completion"])
    assert model.tokenizer.decode(written) == examples[1].columns["completion"]
    assert model.tokenizer.pad_token_id not in written
    assert model.engine.forward.vocab_size == words  # no patch can be written


def test_the_answer_depends_on_pixels_and_gradients_reach_what_sees_them(seeing):
    model, examples = seeing
    network = model.network
    ids = torch.tensor([model.prompt(examples[1].messages).ids])
    network.zero_grad()
    logits = network(input_ids=ids).logits
    logits[0, -1].sum().backward()
    eye = network.model.embed_tokens
    assert all(float(p.grad.abs().max()) > 0 for p in eye.features.parameters())
    kept = eye.gallery.clone()
    try:
        eye.gallery[2, :, 3, 3] = 255
        changed = network(input_ids=ids).logits
        eye.gallery[:] = kept
        eye.gallery[0, :, 3, 3] = 255  # not in this prompt
        same = network(input_ids=ids).logits
    finally:
        eye.gallery[:] = kept
    assert not torch.equal(changed, logits)
    torch.testing.assert_close(same, logits)


def test_the_engine_writes_what_the_network_says(seeing):
    model, examples = seeing
    prompts = [model.prompt(e.messages) for e in examples]
    for prompt, written in zip(prompts, model.engine.generate(prompts, Limits(3)), strict=True):
        ids = list(prompt.ids)
        for token in written.token_ids:
            assert int(model.network(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids.append(token)


def test_a_patch_keeps_its_place(seeing):
    model, _ = seeing
    eye, words = model.network.model.embed_tokens, len(model.tokenizer)
    ids = torch.tensor([[words + PATCHES, 0, words + PATCHES + 5], [1, words, words + 2 * PATCHES]])
    embedded = eye(ids)
    torch.testing.assert_close(embedded[0, 1], eye.words.weight[0])
    features = eye.features(eye.gallery[1:2].float() / 255 - 0.5)[0]
    placed = features[:, 1, 1] + eye.place[5]
    expected = (placed - placed.mean()) / (placed.var(unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(embedded[0, 2], expected)
    assert eye.gallery.shape[-1] == SIDE


def test_the_loss_of_sight_asks_empty_patches_for_nothing_but_that():
    labels = torch.zeros(1, 2, 6, dtype=torch.long)
    labels[0, 1] = torch.tensor([3, 2, 0, 4, 5, 16])
    logits = torch.zeros(1, 2, sum(LABELS))
    colours, kinds, edges = (float(np.log(n)) for n in (1 + len(COLOURS), len(KINDS), SIDE + 1))
    assert float(told(logits, labels)) == pytest.approx(3 * colours + kinds + 4 * edges)
    logits[0, 0, LABELS[0] :] = torch.arange(sum(LABELS[1:]))  # what the empty patch is said to be
    assert float(told(logits, labels)) == pytest.approx(3 * colours + kinds + 4 * edges)
    logits[0, 1, LABELS[0] + 2] = 100.0  # the kind is known
    assert float(told(logits, labels)) == pytest.approx(3 * colours + 4 * edges)


def test_sight_is_learned_then_frozen():
    made = items("sight", 8)
    model = sighted([p for one in made for p in one.images], ["find"], Size(1, 24, 2, 32), seed=0)
    eye = model.network.model.embed_tokens
    state = torch.get_rng_state()
    losses = eye.learn(made, steps=40, batch=16, rate=1e-2, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(losses) == 40
    assert losses[-1] < 0.8 * losses[0]
    trained = {name for name, p in model.network.named_parameters() if p.requires_grad}
    assert "model.embed_tokens.words.weight" in trained
    assert not any("features" in name or "place" in name for name in trained)


# --- figures --------------------------------------------------------------------------------------------

HARD = [False, True] * 50


def answers(easy: float, hard: float) -> Answers:
    rng = random.Random(f"{easy} {hard}")
    run = [(hard if h else easy) + rng.uniform(-0.01, 0.01) for h in HARD]
    return Answers.of([{"greedy": run, "sampled": run}] * 2, HARD)


def test_figures_of_the_sets():
    made = Answers([[0.2, 0.6, 1.0, 0.0]], [[0.0] * 4], [False, True, False, True])
    assert made.iou("easy") == [0.2, 1.0]
    assert made.accuracy("hard") == [1.0, 0.0]
    assert made.by_seed() == {"easy": [0.6], "hard": [0.3]}


def test_shares_of_the_gradient():
    pulls = Pulls([0.9, 0.2, 0.8], [2.0, 1.0, 1.0])
    assert pulls.share() == 0.5  # 0.8 itself is not above it
    e = float(np.exp(0.1) * 2)
    assert pulls.share(weighted=True) == pytest.approx(e / (e + np.exp(0.8) + np.exp(0.2)))
    assert Pulls([0.1], [0.0]).share() == 0


def test_verdicts_follow_from_the_answers():
    pulls = {PLAIN: Pulls([0.9, 0.1] * 30, [1.0, 1.0] * 30)}
    good = {
        "start": answers(0.6, 0.3),
        PRACTICE: answers(0.62, 0.35),
        PLAIN: answers(0.8, 0.5),
        WEIGHTED: answers(0.8, 0.6),
    }
    assert [c.verdict for c in claims(good, pulls, 0)] == ["holds"] * 6
    bad = {
        "start": answers(0.6, 0.3),
        PRACTICE: answers(0.9, 0.9),
        PLAIN: answers(0.6, 0.3),
        WEIGHTED: answers(0.5, 0.2),
    }
    assert [c.verdict for c in claims(bad, pulls, 0)][:5] == ["fails"] * 5
    assert [c.main for c in claims(bad, pulls, 0)] == [True, False, False, True, False, False]
