"""LSKExtractor: clusters, experts, routing, and the spec's simulation."""

from __future__ import annotations

import numpy as np
import pytest

from dovetail.comparison import parse
from dovetail.core import Example, InvalidValue, MissingExtra, Unsupported
from dovetail.models.local import LocalModel
from dovetail.models.sentences import sentence_embeddings
from dovetail.prompting import InLanguage, LanguageKnowledgeRouter
from dovetail.prompting.language_knowledge import (
    best_language,
    cluster,
    hidden_states,
    majority,
    nearest,
    parse_choice,
)

LANGUAGES = ["English", "B", "C", "D", "E"]
TOPICS = np.random.default_rng(3).normal(size=(6, 16)) * 3


def world(n: int, boost: float, seed: int):
    """Questions of six topics (Gaussian blobs) and a 0/1 matrix in which one language is better per topic."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, 6, n)
    vectors = TOPICS[topic] + rng.normal(size=(n, 16))
    chance = np.full((n, 5), 0.5)
    chance[np.arange(n), np.array([0, 0, 1, 2, 3, 4])[topic]] += boost  # English is best in two
    return vectors, (rng.random((n, 5)) < chance).astype(float), topic


def router(vectors, **fields) -> LanguageKnowledgeRouter:
    """Embeds the question "i" as vectors[i]."""
    return LanguageKnowledgeRouter(embed=lambda texts: vectors[[int(t) for t in texts]], **fields)


def numbers(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def test_the_simulation_of_the_spec():
    """Each topic's expert is 0.2 better: routing gains most of that over the best single language."""
    train, right, _ = world(2000, 0.2, 0)
    test, answers, _ = world(1000, 0.2, 1)
    fitted = router(train, n_clusters=6).fit(numbers(2000), right, LANGUAGES)
    routed = router(test, knowledge=fitted.knowledge).score(numbers(1000), answers)
    single = answers[:, LANGUAGES.index(best_language(right, LANGUAGES))].mean()
    assert routed > 0.66
    assert routed - single > 0.08
    assert routed <= answers.max(1).mean()


def test_without_a_difference_there_is_nothing_to_gain():
    train, right, _ = world(2000, 0.0, 0)
    test, answers, _ = world(1000, 0.0, 1)
    fitted = router(train, n_clusters=6).fit(numbers(2000), right, LANGUAGES)
    routed = router(test, knowledge=fitted.knowledge).score(numbers(1000), answers)
    assert abs(routed - 0.5) < 0.05


def test_blobs_are_found_and_questions_belong_to_their_own():
    vectors, right, topic = world(300, 0.2, 2)
    fitted = router(vectors, n_clusters=6).fit(numbers(300), right, LANGUAGES)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    own = nearest(unit, fitted.knowledge.centres)
    assert all(len(set(topic[own == c])) == 1 for c in range(6))
    assert fitted.knowledge.counts.tolist() == np.bincount(own, minlength=6).tolist()
    assert fitted.predict_language(numbers(300)) == [fitted.knowledge.experts[c] for c in own]
    for c in range(6):
        assert np.allclose(fitted.knowledge.accuracy[c], right[own == c].mean(0))


def test_on_its_training_set_the_router_is_at_least_as_good_as_any_language():
    vectors, right, _ = world(200, 0.1, 4)
    fitted = router(vectors, n_clusters=5).fit(numbers(200), right, LANGUAGES)
    assert fitted.score(numbers(200), right) >= right.mean(0).max()


def test_one_language_and_one_cluster_are_the_limits():
    vectors, right, _ = world(100, 0.2, 5)
    only = router(vectors, n_clusters=4, default_language="B").fit(numbers(100), right[:, :1], ["B"])
    assert set(only.predict_language(numbers(100))) == {"B"}
    one = router(vectors, n_clusters=1).fit(numbers(100), right, LANGUAGES)
    assert one.knowledge.experts == (best_language(right, LANGUAGES),)


def test_the_order_of_training_questions_does_not_matter_for_fixed_centres(monkeypatch):
    from dovetail.prompting import language_knowledge

    vectors, right, _ = world(120, 0.2, 6)
    monkeypatch.setattr(language_knowledge, "cluster", lambda v, *a: TOPICS / 10)
    order = np.random.default_rng(0).permutation(120)
    first = router(vectors).fit(numbers(120), right, LANGUAGES)
    other = router(vectors).fit([str(i) for i in order], right[order], LANGUAGES)
    assert first.knowledge.experts == other.knowledge.experts


def test_ties_and_empty_clusters_go_to_the_default_language(monkeypatch):
    from dovetail.prompting import language_knowledge

    monkeypatch.setattr(language_knowledge, "cluster", lambda v, *a: np.eye(3))
    vectors = np.eye(3)[[0, 0, 1]]
    right = [[1, 0], [0, 1], [0, 1]]  # a tie in cluster 0, B better in 1, none in 2
    fitted = router(vectors, default_language="English").fit(numbers(3), right, ["B", "English"])
    assert fitted.knowledge.experts == ("English", "English", "English")
    fitted = router(vectors, default_language="B").fit(numbers(3), right, ["B", "English"])
    assert fitted.knowledge.experts == ("B", "English", "B")
    assert fitted.predict_topk(["2"], k=2) == [["English", "B"]]
    assert fitted.predict_topk(["0"], k=2) == [["B", "English"]]


def test_the_same_seed_gives_the_same_centres_and_seeding_alone_gives_questions():
    vectors, _, _ = world(60, 0.2, 7)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.array_equal(cluster(unit, 5, "kmeans", 1), cluster(unit, 5, "kmeans", 1))
    seeds = cluster(unit, 5, "kmeans++", 1)
    assert all(any(np.array_equal(s, v) for v in unit) for s in seeds)
    assert len({s.tobytes() for s in seeds}) == 5
    assert len(cluster(np.ones((4, 2)) / 2**0.5, 4, "kmeans++", 0)) == 4  # equal questions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"correct": [[1, 0]]}, r"shape \(2, 2\)"),
        ({"correct": [[1, 2], [0, 1]]}, r"\[0, 1\]"),
        ({"correct": [[1, float("nan")], [0, 1]]}, r"\[0, 1\]"),
        ({"languages": ["A", "A"]}, "different names"),
        ({"languages": ["A", "B"]}, "default_language"),
        ({"questions": [], "correct": np.zeros((0, 2))}, "at least one text"),
        ({"questions": ["0", 7]}, "only texts"),
    ],
)
def test_bad_training_data_is_named(arguments, message):
    given = {"questions": ["0", "1"], "correct": [[1, 0], [0, 1]], "languages": ["English", "B"]} | arguments
    with pytest.raises(InvalidValue, match=message):
        router(np.eye(2), n_clusters=1).fit(**given)


def test_impossible_parameters_and_states_are_named():
    with pytest.raises(InvalidValue, match="n_clusters is 0"):
        LanguageKnowledgeRouter(n_clusters=0)
    with pytest.raises(InvalidValue, match="method"):
        LanguageKnowledgeRouter(method="agglomerative")
    with pytest.raises(InvalidValue, match="at most the number of questions, 2"):
        router(np.eye(2), n_clusters=3).fit(["0", "1"], [[1], [1]], ["English"])
    with pytest.raises(Unsupported, match="learned nothing yet"):
        router(np.eye(2)).predict_language(["0"])
    fitted = router(np.eye(2), n_clusters=1).fit(["0", "1"], [[1], [1]], ["English"])
    with pytest.raises(InvalidValue, match="width 3"):
        router(np.eye(3), knowledge=fitted.knowledge).predict_language(["0"])
    with pytest.raises(InvalidValue, match="number of languages, 1"):
        fitted.predict_topk(["0"])
    with pytest.raises(InvalidValue, match="knowledge"):
        parse("language-knowledge:knowledge=nowhere.json")


def asked() -> Example:
    columns = {"translations": {"English": "1", "B": "bi?"}}
    return Example.ask("one", "1", "x", **columns)


def test_the_question_is_put_in_the_routed_language():
    fitted = router(np.eye(2), n_clusters=2).fit(["0", "1"], [[1, 0], [0, 1]], ["English", "B"])
    assert fitted.messages(asked())[-1].content == "bi?"
    assert InLanguage("English").messages(asked())[-1].content == "1"
    with pytest.raises(InvalidValue, match="translations of one"):
        InLanguage("C").messages(asked())
    with pytest.raises(InvalidValue, match="translations of two"):
        InLanguage("B").messages(Example.ask("two", "1"))


def test_a_map_can_be_saved_and_named_on_the_command_line(tmp_path):
    fitted = router(np.eye(2), n_clusters=2).fit(["0", "1"], [[1, 0], [0, 1]], ["English", "B"])
    fitted.save(tmp_path / "map.json")
    arm = parse(f"language-knowledge:knowledge={tmp_path / 'map.json'}")
    read = arm.prompting.knowledge
    assert read.experts == fitted.knowledge.experts
    assert np.array_equal(read.centres, fitted.knowledge.centres)
    assert "experts" in arm.settings()["prompting"]["knowledge"]


def test_hidden_states_are_the_models_own_whatever_the_batch(tiny_network, tiny_tokenizer):
    import torch

    model = LocalModel(tiny_network("qwen3").double(), tiny_tokenizer, name="tiny")
    texts = ["abc", "a", "xyz?", "hello"]
    made = hidden_states(model)(texts)
    assert np.allclose(made, hidden_states(model, batch=1)(texts), atol=1e-10)
    with torch.no_grad():
        ids = torch.tensor([tiny_tokenizer.encode("xyz?", add_special_tokens=False)])
        direct = model.network.model(input_ids=ids).last_hidden_state[0].mean(0)
    assert np.allclose(made[2], direct.numpy(), atol=1e-10)


def test_a_router_takes_the_asked_models_states_and_refuses_a_remote_one(tiny_network, tiny_tokenizer):
    model = LocalModel(tiny_network("qwen3"), tiny_tokenizer, name="tiny")
    bound = LanguageKnowledgeRouter(n_clusters=1).bound(model)
    fitted = bound.fit(["ab", "cd"], [[0, 1], [0, 1]], ["English", "B"])
    assert fitted.predict_language(["ef"]) == ["B"]
    with pytest.raises(Unsupported, match=r"router.bound\(model\)"):
        LanguageKnowledgeRouter(n_clusters=1).fit(["ab"], [[1]], ["English"])

    class Remote:
        name, provides = "remote", frozenset({"text"})

    with pytest.raises(Unsupported, match="needs hidden, which remote does not give"):
        LanguageKnowledgeRouter().bound(Remote())
    assert fitted.bound(Remote()) == fitted  # own embeddings: any model will do


def test_extras_are_named_where_they_are_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingExtra, match=r"dovetail\[embeddings\]"):
        sentence_embeddings("intfloat/multilingual-e5-large-instruct")
    with pytest.raises(MissingExtra, match="scikit-learn"):
        cluster(np.eye(3), 2, "hdbscan")


CHOICES = ["A. Paris", "B. Rome", "C. Bern"]


@pytest.mark.parametrize(
    ("response", "choice"),
    [
        ("I say B. Rome here", "B. Rome"),
        ("A. Paris or B. Rome", None),
        ("the answer is C ", "C. Bern"),
        ("it is ROME", "B. Rome"),
        ('Paris and Rome {"final_answer": "rome"}', "B. Rome"),
        ("none of them", None),
        ("", None),
    ],
)
def test_reading_a_choice(response, choice):
    assert parse_choice(response, CHOICES) == choice


def test_votes_and_choices_need_something_to_choose_from():
    assert majority(["x", None, "y", "y"]) == "y"
    assert majority(["x", "y"]) == "x"
    assert majority([None, ""]) is None
    with pytest.raises(InvalidValue, match="at least two"):
        parse_choice("A", ["A. Paris"])
