"""LSKExtractor: does asking in the language that knows a topic best beat asking in any single language?

Copies of pico learn a new atlas world in three languages: English, and two constructed ones that share only
the names with it. In the copy "uneven" every language is taught all facts of its own topics and a few of
the others; in "equal" all languages are taught the same facts. The router sees which training questions were
answered rightly in which language, and never the topics. All questions are answered without thinking.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.comparison import compare
from dovetail.core import Claim, Example, Figure, Report, Task
from dovetail.core.statistics import mean, paired_difference
from dovetail.models.local import LocalModel
from dovetail.prompting.language_knowledge import (
    InLanguage,
    LanguageKnowledgeRouter,
    best_language,
    majority,
)
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale
from dovetail.recipes.finetune import finetune
from dovetail.tasks.atlas import RELATIONS, Fact, World, ask
from dovetail.tasks.scorers import Exact
from dovetail.training.pico.corpus import Document

LANGUAGES = ("English", "Vusk", "Zheb")
# Question word and the relations' words of the constructed languages.
_VUSK = ("osk", "umb", "ilt", "egz", "arv", "ulm", "opf", "izk")
_ZHEB = ("xq", "yw", "qj", "kx", "wq", "jy", "zx", "vq")
WORDS: dict[str, tuple[str, dict[str, str]]] = {
    language: (word, dict(zip((r.name for r in RELATIONS), words, strict=True)))
    for language, word, words in (("Vusk", "vu", _VUSK), ("Zheb", "#", _ZHEB))
}
HOME = {
    "friend": "English",
    "home": "English",
    "teacher": "Vusk",
    "trade": "Vusk",
    "river": "Vusk",
    "sister": "Zheb",
    "boss": "Zheb",
    "ruler": "Zheb",
}
ELSEWHERE = 0.1  # share of a topic's facts that a language is taught which is not the topic's home
EQUAL = 0.55  # share of all facts that every language is taught in the copy "equal"
TRAIN = 0.4  # share of the questions that the router learns from
STEPS: dict[Scale, int] = {"smoke": 2, "pico": 200, "full": 800}
PEOPLE: dict[Scale, int] = {"smoke": 6, "pico": 48, "full": 96}
MAX_NEW_TOKENS = 16


def question(fact: Fact, language: str) -> str:
    """The fact's question in a language: "Who is the friend of Kalo?", "vu osk Kalo?"."""
    if language == "English":
        return ask((fact.relation,), fact.subject)
    word, relations = WORDS[language]
    return f"{word} {relations[fact.relation.name]} {fact.subject}?"


def taught(facts: Sequence[Fact], even: bool, seed: int) -> list[tuple[Fact, str]]:
    """Which fact is taught in which language."""
    rng = random.Random(f"lsk-taught-{even}-{seed}")
    if even:
        common = rng.sample(facts, round(EQUAL * len(facts)))
        return [(fact, language) for fact in common for language in LANGUAGES]
    return [
        (fact, language)
        for fact in facts
        for language in LANGUAGES
        if HOME[fact.relation.name] == language or rng.random() < ELSEWHERE
    ]


def document(fact: Fact, language: str) -> Document:
    messages = ({"role": "user", "content": question(fact, language)},)
    return Document(messages, f"\\boxed{{{fact.object}}}", thinking=False, family=language)


def example(fact: Fact) -> Example:
    translations = {language: question(fact, language) for language in LANGUAGES}
    id = f"{fact.relation.name}-{fact.subject}"
    asked = translations["English"]
    return Example.ask(id, asked, fact.object, translations=translations, topic=fact.relation.name)


def asked(name: str, examples: Sequence[Example]) -> Task:
    return Task(name, lambda limit, seed: (list(examples)[:limit], []), Exact())


@dataclass(frozen=True)
class Measured:
    """What one copy of pico answered.

    Attributes:
        router: fitted on the training questions.
        best: the language with the best accuracy on the training questions.
        report: of the test questions, an arm per language and one for the router.
        train, test: [N, L] of right answers.
        votes: [N] of right answers by majority over the languages.
    """

    router: LanguageKnowledgeRouter
    best: str
    report: Report
    train: NDArray[np.float64]
    test: NDArray[np.float64]
    votes: NDArray[np.float64]

    @property
    def routed(self) -> NDArray[np.float64]:
        return np.array([o.value for o in self.report.outcomes if o.arm == "routed"])

    def in_language(self, language: str) -> NDArray[np.float64]:
        return self.test[:, LANGUAGES.index(language)]


def measure(model: LocalModel, train: Sequence[Example], test: Sequence[Example], seed: int) -> Measured:
    """Fits the router on the training questions and asks the test questions in every way."""
    arms = {language: [InLanguage(language)] for language in LANGUAGES}
    settings: dict[str, Any] = {
        "seed": seed,
        "max_new_tokens": MAX_NEW_TOKENS,
        "thinking": False,
        "batch": 64,
    }
    first = compare(model, asked("train", train), arms, limit=None, progress=False, **settings)
    right, _ = matrix(first, train)
    router = LanguageKnowledgeRouter().bound(model).fit([e.question for e in train], right, LANGUAGES)
    router = replace(router, embed="hidden")
    best = best_language(right, LANGUAGES)
    every: dict[str, list[Any]] = {**arms, "routed": [router]}
    report = compare(model, asked("test", test), every, limit=None, baseline=best, progress=False, **settings)
    found, answers = matrix(report, test)
    votes = [voted(given, values) for given, values in zip(answers, found, strict=True)]
    return Measured(router, best, report, right, found, np.array(votes))


def voted(answers: Sequence[str], right: Sequence[float]) -> float:
    """What the answer that most languages give scores; an answer is right wherever it is given."""
    winner = majority(answers)
    return float(right[list(answers).index(winner)]) if winner is not None else 0.0


def matrix(report: Report, examples: Sequence[Example]) -> tuple[NDArray[np.float64], list[list[str]]]:
    """[N, L] of right answers, and the N x L answers themselves."""
    held = {(o.example_id, o.arm): o for o in report.outcomes}
    rows = [[held[e.id, language] for language in LANGUAGES] for e in examples]
    return np.array([[o.value for o in row] for row in rows]), [[o.answer for o in row] for row in rows]


def claims(uneven: Measured, equal: Measured, test: Sequence[Example], seed: int) -> list[Claim]:
    home = [LANGUAGES.index(HOME[str(e.columns["topic"])]) for e in test]
    at_home = uneven.test[np.arange(len(test)), home]
    gain, even, lost = (
        paired_difference(values, baseline, scale=1.0, seed=seed)
        for values, baseline in (
            (uneven.routed, uneven.in_language(uneven.best)),
            (equal.routed, equal.in_language(equal.best)),
            (uneven.routed, at_home),
        )
    )
    return [
        Claim(
            "routed accuracy is at least 10 points above the best single language's",
            "up to 10% better than English (relative), on average over models and sets",
            gain.value,
            gain.interval,
            baseline=float(uneven.in_language(uneven.best).mean()),
            at_least=0.10,
            main=True,
        ),
        Claim(
            "with equal knowledge in all languages routing stays within 10 points of the best single one",
            "near uniform choices and no gain on BLEnD and Social IQa",
            even.value,
            even.interval,
            baseline=float(equal.in_language(equal.best).mean()),
            at_least=-0.10,
            at_most=0.10,
            main=True,
        ),
        Claim(
            "routing by clusters loses at most 10 points against knowing every topic's own language",
            "not reported",
            lost.value,
            lost.interval,
            baseline=float(at_home.mean()),
            at_least=-0.10,
        ),
    ]


def recipe_arms(name: str, measured: Measured, seed: int) -> list[RecipeArm]:
    arms = [RecipeArm.of(arm) for arm in measured.report.arms]
    arms = [replace(arm, name=f"{name}: {arm.name}") for arm in arms]
    chance = measured.test.mean(1)
    for label, values, words in (
        ("random language", chance, "expected accuracy of a language drawn at random"),
        ("majority vote", measured.votes, "all languages asked, ties to the first"),
        ("oracle", measured.test.max(1), "right in any language"),
    ):
        figures: dict[str, Figure | float] = {"accuracy": mean(values, seed=seed)}
        arms.append(RecipeArm(f"{name}: {label}", figures, words))
    return arms


def learning_curve(
    measured: Measured, train: Sequence[Example], test: Sequence[Example], model: LocalModel
) -> dict[str, Any]:
    """Routed accuracy by the number of training questions."""
    questions, asked_of = [e.question for e in train], [e.question for e in test]
    sizes = [n for n in (12, 25, 50, 100, len(train)) if 12 <= n <= len(train)]
    router = measured.router.bound(model)
    curve = [
        router.fit(questions[:n], measured.train[:n], LANGUAGES).score(asked_of, measured.test) for n in sizes
    ]
    return {"x": sizes, "y": curve}


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Teaches two copies of pico, fits the router on some questions and asks the others."""
    from dovetail.models import load

    pico = load("pico", device="cpu")
    assert isinstance(pico, LocalModel)
    world = World(seed=1000 + seed, people=PEOPLE[scale], cities=PEOPLE[scale] // 4)
    facts = list(world.facts)
    random.Random(f"lsk-split-{seed}").shuffle(facts)
    cut = round(TRAIN * len(facts))
    train, test = [example(f) for f in facts[:cut]], [example(f) for f in facts[cut:]]
    measured: dict[str, Measured] = {}
    series = {}
    for name in ("uneven", "equal"):
        lessons = [document(*pair) for pair in taught(facts, name == "equal", seed)]
        model = finetune(pico, lessons, STEPS[scale], seed=seed, documents_per_step=48, name=f"pico, {name}")
        measured[name] = measure(model, train, test, seed)
        series[f"routed_by_training_questions_{name}"] = learning_curve(measured[name], train, test, model)
    return RecipeResult(
        [arm for name, one in measured.items() for arm in recipe_arms(name, one, seed)],
        claims(measured["uneven"], measured["equal"], test, seed),
        seeds=[seed],
        settings={
            "model": pico.describe(),
            "languages": LANGUAGES,
            "home_of_topics": HOME,
            "taught_elsewhere": ELSEWHERE,
            "taught_in_equal": EQUAL,
            "steps": STEPS[scale],
            "train_questions": len(train),
            "test_questions": len(test),
            "best_single_language": {name: one.best for name, one in measured.items()},
            "experts": {name: one.router.knowledge.experts for name, one in measured.items()},  # type: ignore[union-attr]
        },
        notes=[
            "The languages' knowledge is planted by fine-tuning; the paper finds it in models as they are, "
            "where differences are smaller.",
            "The best single language is chosen on the training questions, as the router's experts are.",
        ],
        series=series,
    )
