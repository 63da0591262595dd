"""LSKExtractor: learn in which language a model answers each topic best, and ask in that language.

"Language Specific Knowledge: Do Models Know Better in X than in English?", arXiv 2505.14990. The same
questions are answered in every language; the default language's questions are clustered by meaning; each
cluster's expert language is the one with the best accuracy there. A new question goes to its nearest
cluster's expert. No weights change. Costs every training question once per language, and one embedding per
question asked.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dovetail.core import Example, InvalidValue, Message, MissingExtra, Model, Unsupported
from dovetail.models.sentences import sentence_embeddings
from dovetail.prompting.base import Prompting, with_question

Floats = NDArray[np.float64]
Embed = Callable[[Sequence[str]], Any]
HIDDEN = "hidden"


class LanguageMap:
    """What a router has learned.

    Attributes:
        languages: the columns' names.
        centres: [K, D] unit vectors.
        accuracy: [K, L] of each language on each cluster's training questions; 0 in an empty cluster.
        counts: [K] training questions.
        experts: K languages, the best of each cluster.
    """

    def __init__(
        self,
        languages: tuple[str, ...],
        centres: Floats,
        accuracy: Floats,
        counts: NDArray[np.int64],
        experts: tuple[str, ...],
    ) -> None:
        self.languages, self.centres, self.accuracy = languages, centres, accuracy
        self.counts, self.experts = counts, experts

    def __repr__(self) -> str:
        return f"LanguageMap(experts={self.experts})"


@dataclass(frozen=True)
class LanguageKnowledgeRouter(Prompting):
    """Asks each question in the language in which its topic is known best.

    An example's column ``translations`` holds its question by language; the default language's is embedded.

    Attributes:
        n_clusters: topics (paper: 48; released code: 12, the default here).
        method: "kmeans" (the paper; Lloyd's iterations), "kmeans++" (released code: seeding only) or
            "hdbscan".
        default_language: of clusters without a better one; ties go to it, then to the first in order.
        seed: of the clustering.
        embed: "hidden" (the asked model's own hidden states, meaned over the question), the name of a
            sentence-transformers model (paper: intfloat/multilingual-e5-large-instruct; code:
            Qwen/Qwen3-Embedding-0.6B), or a function from N texts to [N, D].
        knowledge: what `fit` learned, or the path that `save` wrote it to; None before.
    """

    n_clusters: int = 12
    method: Literal["kmeans", "kmeans++", "hdbscan"] = "kmeans"
    default_language: str = "English"
    seed: int = 512
    embed: str | Embed = HIDDEN
    knowledge: LanguageMap | str | None = None

    def __post_init__(self) -> None:
        if self.n_clusters < 1:
            raise InvalidValue("n_clusters", self.n_clusters, "at least 1")
        if self.method not in ("kmeans", "kmeans++", "hdbscan"):
            raise InvalidValue("method", self.method, "kmeans, kmeans++ or hdbscan")
        if isinstance(self.knowledge, str):
            object.__setattr__(self, "knowledge", read_map(self.knowledge))

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"hidden"}) if self.embed == HIDDEN else frozenset()

    def bound(self, model: Model) -> Self:
        """With embeddings from ``model``'s hidden states where ``embed`` is "hidden"."""
        super().bound(model)
        return replace(self, embed=hidden_states(model)) if self.embed == HIDDEN else self

    def fit(self, questions: Sequence[str], correct: ArrayLike, languages: Sequence[str]) -> Self:
        """A router that has learned from training questions.

        Args:
            questions: N, in the default language.
            correct: [N, L] in [0, 1]: was the answer to question i in language j right?
            languages: L names.

        Raises:
            InvalidValue: names what does not fit.
        """
        scores = _checked(correct, questions, languages)
        if self.default_language not in languages:
            raise InvalidValue("default_language", self.default_language, f"one of {', '.join(languages)}")
        vectors = self._embedded(questions)
        centres = cluster(vectors, self.n_clusters, self.method, self.seed)
        own = nearest(vectors, centres)
        k = len(centres)
        counts = np.bincount(own, minlength=k)
        sums = np.zeros((k, len(languages)))
        np.add.at(sums, own, scores)
        accuracy = sums / np.maximum(counts, 1)[:, None]
        # The default language first: a later one must be strictly better, and an empty cluster keeps it.
        order = sorted(range(len(languages)), key=lambda j: languages[j] != self.default_language)
        experts = tuple(languages[order[int(np.argmax(row[order]))]] for row in accuracy)
        return replace(self, knowledge=LanguageMap(tuple(languages), centres, accuracy, counts, experts))

    def predict_language(self, questions: Sequence[str]) -> list[str]:
        """The expert language of each question's cluster."""
        return [self._map.experts[c] for c in self._clusters(questions)]

    def predict_topk(self, questions: Sequence[str], k: int = 3) -> list[list[str]]:
        """The ``k`` best languages of each question's cluster, best first; ties as for the expert."""
        known = self._map
        if not 1 <= k <= len(known.languages):
            raise InvalidValue("k", k, f"from 1 to the number of languages, {len(known.languages)}")
        order = sorted(range(len(known.languages)), key=lambda j: known.languages[j] != self.default_language)
        ranked = [sorted(order, key=lambda j, row=row: -row[j])[:k] for row in known.accuracy]  # type: ignore[misc]
        return [[known.languages[j] for j in ranked[c]] for c in self._clusters(questions)]

    def score(self, questions: Sequence[str], correct: ArrayLike) -> float:
        """Accuracy when every question is asked in its routed language; ``correct`` [N, L] as for `fit`."""
        scores = _checked(correct, questions, self._map.languages)
        index = [self._map.languages.index(l) for l in self.predict_language(questions)]
        return float(scores[np.arange(len(index)), index].mean())

    def messages(self, example: Example) -> list[Message]:
        language = self.predict_language([translation(example, self.default_language)])[0]
        return with_question(example, translation(example, language))

    def save(self, path: str | Path) -> None:
        """Writes what was learned as JSON, for ``language-knowledge:knowledge=PATH``."""
        known = self._map
        content = {
            "languages": known.languages,
            "centres": known.centres.tolist(),
            "accuracy": known.accuracy.tolist(),
            "counts": known.counts.tolist(),
            "experts": known.experts,
        }
        Path(path).write_text(json.dumps(content), encoding="utf-8")

    @property
    def _map(self) -> LanguageMap:
        if not isinstance(self.knowledge, LanguageMap):
            raise Unsupported(
                "this LanguageKnowledgeRouter has learned nothing yet: fit(questions, correct, languages) "
                "gives one that has, and knowledge=PATH reads what save(PATH) wrote"
            )
        return self.knowledge

    def _clusters(self, questions: Sequence[str]) -> list[int]:
        centres = self._map.centres
        vectors = self._embedded(questions)
        if vectors.shape[1] != centres.shape[1]:
            raise InvalidValue(
                "embed", f"vectors of width {vectors.shape[1]}", f"as wide as in fit, {centres.shape[1]}"
            )
        return [int(c) for c in nearest(vectors, centres)]

    def _embedded(self, questions: Sequence[str]) -> Floats:
        if not questions or any(not isinstance(q, str) for q in questions):
            raise InvalidValue("questions", questions, "at least one text, and only texts")
        embed = self.embed
        if embed == HIDDEN:
            raise Unsupported(
                "embeddings from hidden states need a model: router.bound(model), or give embed=..., "
                "a function or a sentence-transformers model"
            )
        made = embed(questions) if callable(embed) else sentence_embeddings(embed)(questions)
        return _unit(np.asarray(made, dtype=np.float64))


@dataclass(frozen=True)
class InLanguage(Prompting):
    """Asks every question in one language: the router's baseline.

    Attributes:
        language: a key of the example's column ``translations``.
    """

    language: str = "English"

    def messages(self, example: Example) -> list[Message]:
        return with_question(example, translation(example, self.language))


def translation(example: Example, language: str) -> str:
    """The example's question in ``language``, from its column ``translations``.

    Raises:
        InvalidValue: there is no such column, or it does not have the language.
    """
    held = example.columns.get("translations")
    if not isinstance(held, dict) or not isinstance(held.get(language), str):
        has = ", ".join(map(str, held)) if isinstance(held, dict) else "nothing"
        raise InvalidValue(f"translations of {example.id}", has, f"question by language, with {language!r}")
    found: str = held[language]
    return found


# --- clusters --------------------------------------------------------------------------------------------


def cluster(vectors: Floats, n_clusters: int, method: str = "kmeans", seed: int = 512) -> Floats:
    """[N, D] unit vectors -> [K, D] unit centres; hdbscan finds K itself.

    Raises:
        InvalidValue: fewer vectors than clusters.
        MissingExtra: hdbscan without scikit-learn.
    """
    if method == "hdbscan":
        return _hdbscan(vectors)
    if n_clusters > len(vectors):
        raise InvalidValue("n_clusters", n_clusters, f"at most the number of questions, {len(vectors)}")
    rng = np.random.default_rng(seed)
    if method == "kmeans++":
        return vectors[_seeds(vectors, n_clusters, rng)]
    best: Floats | None = None
    inertia = np.inf
    for _ in range(10):  # restarts: Lloyd's iterations end in the nearest local minimum
        centres = vectors[_seeds(vectors, n_clusters, rng)]
        own = np.full(len(vectors), -1)
        while True:
            distances = 2 - 2 * vectors @ _unit(centres).T
            now = distances.argmin(1)
            if (now == own).all():
                break
            own = now
            for c in np.unique(own):
                centres[c] = vectors[own == c].mean(0)
        total = float(distances.min(1).sum())
        if total < inertia - 1e-12:
            best, inertia = _unit(centres), total
    assert best is not None
    return best


def nearest(vectors: Floats, centres: Floats) -> NDArray[np.int64]:
    """[N] index of the centre with the highest cosine similarity; the first one on ties."""
    return np.asarray((vectors @ centres.T).argmax(1), dtype=np.int64)


def _seeds(vectors: Floats, k: int, rng: np.random.Generator) -> list[int]:
    """k-means++ (Arthur and Vassilvitskii, 2007): each next seed with probability by squared distance."""
    chosen = [int(rng.integers(len(vectors)))]
    while len(chosen) < k:
        distances = ((vectors[:, None] - vectors[chosen][None]) ** 2).sum(-1).min(1)
        distances[chosen] = 0.0
        total = distances.sum()
        left = [i for i in range(len(vectors)) if i not in chosen]
        chosen.append(int(rng.choice(len(vectors), p=distances / total)) if total > 0 else left[0])
    return chosen


def _hdbscan(vectors: Floats) -> Floats:
    try:
        from sklearn.cluster import HDBSCAN
    except ImportError as error:
        raise MissingExtra("scikit-learn", "embeddings") from error
    labels = HDBSCAN(min_cluster_size=5, min_samples=5).fit_predict(vectors)  # -1 is noise: a cluster, too
    return _unit(np.stack([vectors[labels == c].mean(0) for c in np.unique(labels)]))


# --- embeddings ------------------------------------------------------------------------------------------


def hidden_states(model: Model, batch: int = 64) -> Embed:
    """N texts -> [N, D]: ``model``'s last hidden states, meaned over each text's tokens.

    Raises:
        Unsupported: a model that shows no hidden states, such as a remote one.
    """
    if "hidden" not in model.provides:
        raise Unsupported(
            f"hidden states need a local model, which {model.name} is not: give embed=..., a function or a "
            "sentence-transformers model"
        )

    def embed(texts: Sequence[str]) -> Floats:
        import torch

        forward, tokenizer = model.engine.forward, model.engine.tokenizer
        forward.refresh()
        rows = []
        with torch.inference_mode():
            for at in range(0, len(texts), batch):
                ids = [tokenizer.encode(t, add_special_tokens=False) or [0] for t in texts[at : at + batch]]
                width = max(map(len, ids))
                # Left padding, as the engine pads.
                padded = torch.tensor([[0] * (width - len(i)) + i for i in ids], device=forward.device)
                valid = torch.tensor([[False] * (width - len(i)) + [True] * len(i) for i in ids])
                valid = valid.to(forward.device)
                out = forward(forward.cache(len(ids)), padded, valid=valid, hidden=True)
                weights = valid[..., None].to(torch.float64)
                rows.append((out.hidden.double() * weights).sum(1) / weights.sum(1))
        return np.asarray(torch.cat(rows).cpu().numpy())

    return embed


# --- answers and votes -----------------------------------------------------------------------------------


def best_language(correct: ArrayLike, languages: Sequence[str]) -> str:
    """The single language with the best accuracy on ``correct`` [N, L]; choose it on training questions."""
    scores = np.asarray(correct, dtype=np.float64)
    return languages[int(scores.mean(0).argmax())]


def majority(answers: Sequence[str | None]) -> str | None:
    """The answer that most give; ties go to the first given. None entries do not vote."""
    votes = Counter(a for a in answers if a)
    return votes.most_common(1)[0][0] if votes else None


def parse_choice(response: str, choices: Sequence[str]) -> str | None:
    """The choice that a response names, as the paper reads it; None if that is not clear.

    First hit wins: exactly one full choice ("A. Paris"); exactly one letter with a blank behind it; exactly
    one option text in any case; then the same in what follows ``final_answer``.

    Raises:
        InvalidValue: fewer than two choices.
    """
    if len(choices) < 2:
        raise InvalidValue("choices", list(choices), "at least two")
    _, mark, final = response.partition("final_answer")
    for text in (response, final) if mark else (response,):
        for found in (
            [c for c in choices if c in text],
            [c for c in choices if re.search(rf"(?<!\w){re.escape(c[:1])}\s", text)],
            [c for c in choices if (own := re.sub(r"^\w\.\s*", "", c).lower()) and own in text.lower()],
        ):
            if len(found) == 1:
                return found[0]
    return None


def read_map(path: str | Path) -> LanguageMap:
    """What `LanguageKnowledgeRouter.save` wrote.

    Raises:
        InvalidValue: the file cannot be read, or is something else.
    """
    try:
        held = json.loads(Path(path).read_text(encoding="utf-8"))
        return LanguageMap(
            tuple(held["languages"]),
            np.asarray(held["centres"], dtype=np.float64),
            np.asarray(held["accuracy"], dtype=np.float64),
            np.asarray(held["counts"], dtype=np.int64),
            tuple(held["experts"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidValue("knowledge", str(path), f"a file that save() wrote ({error})") from error


def _checked(correct: ArrayLike, questions: Sequence[str], languages: Sequence[str]) -> Floats:
    scores = np.asarray(correct, dtype=np.float64)
    if len(set(languages)) < len(languages) or not languages:
        raise InvalidValue("languages", list(languages), "at least one, of different names")
    if scores.shape != (len(questions), len(languages)):
        expected = f"of shape ({len(questions)}, {len(languages)}): questions, languages"
        raise InvalidValue("correct", f"an array of shape {scores.shape}", expected)
    if not ((scores >= 0) & (scores <= 1)).all():  # NaN too
        raise InvalidValue("correct", "a number outside", "numbers in [0, 1]")
    return scores


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0))
