"""LAC beside random and cosine-similarity skipping: planted Voids, and accuracy against the layers used.

*Planted*: three layers that add nothing (or a twentieth of what a layer adds) are inserted into the model,
and the loss on the model's own greedy answers is measured while layers are skipped. *Plain*: the model
answers while layers are skipped; random skipping leaves out as many layer-token pairs as LAC did on the same
questions (spread evenly, or as many in every single layer), cosine similarity about as many by a threshold
that other questions gave. All arms decode greedily, so that they differ in what is skipped alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from dovetail.core import Claim, Example, Figure, Limits, Task
from dovetail.core.seeds import stream
from dovetail.core.statistics import mean, paired_difference
from dovetail.decoding import CosineSkipping, Greedy, L2AdaptiveComputation, RandomSkipping, chain
from dovetail.decoding.layer_skipping import LayerSkipping, layer_states
from dovetail.engine import Engine, Rows
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale
from dovetail.recipes.measure import Answers, accuracy_claim, answer

SKIPS = ("readout", "residual")
DEFAULT = 0.8
# Eight settings each to choose from.
ALPHAS_TO_TRY = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
THRESHOLDS_TO_TRY = (0.99999, 0.9999, 0.999, 0.997, 0.99, 0.98, 0.95, 0.9)
FREE = 0.01  # nats per token: a loss that grows by no more counts as none
NEAR = 0.05  # share of a layer's usual output that the layers planted second write
MMLU = "MMLU 69.2 to 71.3 with 30% of layers (Qwen2.5-7B), GPQA 13.9 to 18.4 with 70% (Mistral-7B)"
MEANS = {"random": "chance", "random by layer": "chance, layer by layer", "cosine": "cosine similarity"}
SAME = "masking Voids keeps accuracy or raises it"


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        examples, tuning: questions of the report, and of the choice of settings.
        texts: answers that are read with planted layers.
        alphas: swept on the plain model.
        every: of the settings to try, every so-manieth is.
        limits: of an answer.
    """

    examples: int
    tuning: int
    texts: int
    alphas: tuple[float, ...]
    every: int
    limits: Limits


SIZES: dict[Scale, Size] = {
    "smoke": Size(5, 3, 4, (0.1, DEFAULT), 4, Limits(max_new_tokens=24)),
    "pico": Size(80, 40, 40, (0.02, 0.1, 0.3, DEFAULT), 1, Limits(max_new_tokens=128)),
    "full": Size(1000, 100, 100, (0.1, 0.2, 0.4, 0.6, DEFAULT, 1.0), 1, Limits(max_new_tokens=50)),
}


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Measures LAC on pico and chain-sum; at scale ``full`` on Qwen2.5-7B-Instruct and MMLU."""
    from dovetail.models import load
    from dovetail.tasks import task as named

    size, full = SIZES[scale], scale == "full"
    model = load("Qwen/Qwen2.5-7B-Instruct", dtype="bfloat16") if full else load("pico", device="cpu")
    assert isinstance(model, LocalModel)
    task = named("hf:cais/mmlu:all:test" if full else "chain-sum")
    tuning, _ = task.examples(size.tuning, seed + 1)
    examples, _ = task.examples(size.examples, seed)

    texts = written(model, examples[: size.texts], size.limits, seed)
    other_texts = written(model, tuning, size.limits, seed + 1)
    arms, claims = planted(model, texts, other_texts, size.every, seed)
    more, checked, series, chosen = plain(model, task, examples, tuning, other_texts, size, seed)
    return RecipeResult(
        [*arms, *more],
        [*claims, *checked],
        seeds=[seed, seed + 1],
        settings={
            "model": model.describe(),
            "task": task.name,
            "examples": size.examples,
            "texts": len(texts),
            "planted_at": planting(model.engine.forward.layers),
            "alphas": size.alphas,
            "chosen": chosen,
        },
        notes=[
            f"Seed {seed + 1} chose alphas and thresholds, on other questions than the reported ones "
            f"(seed {seed}).",
            "No arm is faster than the full model: whether a layer is a Void is known once it has run.",
            "Planted layers of zeros change no norm, so their recall follows from the rule wherever two "
            "earlier layers differ; those that write a little do not follow from it.",
            "Where the default alpha fails on pico: its first layer lengthens a token's state more than "
            "any other does while the prompt is read, so 0.8 of the range exceeds what nearly every layer "
            "from the third on adds (series `layers pp`), and layers that six-layered pico needs are taken "
            "for Voids. Neither way of skipping changes that; a smaller alpha does.",
            "Where cosine similarity is ahead: it tells a layer that turns a state without lengthening it "
            "from one that does nothing; the change of the norm does not.",
        ],
        series=series,
    )


# --- planted Voids ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """A prompt and what the model wrote to it: ``ids``, of which the last ``answer`` were written."""

    ids: tuple[int, ...]
    answer: int
    seed: int


def written(model: LocalModel, examples: Sequence[Example], limits: Limits, seed: int) -> list[Text]:
    """The model's own greedy answers."""
    prompts = [model.prompt(e.messages, seed=stream(seed, e.id)) for e in examples]
    answers = Greedy().generate(model.engine, prompts, limits)
    return [
        Text((*p.ids, *a.token_ids), len(a.token_ids), p.seed) for p, a in zip(prompts, answers, strict=True)
    ]


def planting(layers: int) -> tuple[int, int, int]:
    """Where three inserted layers stand: beyond the first two, whose threshold is 0."""
    return 2, 2 + (layers + 1) // 3, 2 + 2 * (layers + 1) // 3


def plant(model: LocalModel, strength: float) -> Engine:
    """The model with three layers inserted: copies of those before them that write ``strength`` as much."""
    network = model.network
    at = planting(network.config.num_hidden_layers)
    order = list(range(network.config.num_hidden_layers))
    for place in at:
        order.insert(place, order[place - 1])
    config = copy.deepcopy(network.config)
    config.num_hidden_layers = len(order)
    if getattr(config, "layer_types", None):
        config.layer_types = [network.config.layer_types[i] for i in order]
    grown: Any = type(network)(config)
    grown.to(device=network.device, dtype=network.dtype).eval()
    grown.load_state_dict(network.state_dict(), strict=False)  # embeddings, head, final norm
    with torch.no_grad():
        for place, source in enumerate(order):
            block = grown.model.layers[place]
            block.load_state_dict(network.model.layers[source].state_dict())
            if place in at:
                block.self_attn.o_proj.weight.mul_(strength)
                block.mlp.down_proj.weight.mul_(strength)
    return Engine(grown, model.tokenizer, name=f"{model.name} with planted layers")


@dataclass(frozen=True)
class Passes:
    """Per text: nats per written token, and [N, L] the share of its tokens that each layer is a Void for."""

    loss: list[float]
    voids: Tensor

    def share(self, layers: Sequence[int] | None = None) -> list[float]:
        """Per text, the share of Voids among the pairs of its tokens and some layers (all if None)."""
        return (self.voids if layers is None else self.voids[:, list(layers)]).mean(1).tolist()


@torch.inference_mode()
def passes(engine: Engine, texts: Sequence[Text], method: LayerSkipping, at_once: int = 32) -> Passes:
    """Reads texts under a method's hook, each in one pass."""
    forward, losses, voids = engine.forward, [], []
    for start in range(0, len(texts), at_once):
        some = texts[start : start + at_once]
        lengths = torch.tensor([len(t.ids) for t in some], device=engine.device)
        width = int(lengths.max())
        ids = torch.tensor([[0] * (width - len(t.ids)) + list(t.ids) for t in some], device=engine.device)
        valid = torch.arange(width, device=engine.device) >= width - lengths[:, None]
        ones = torch.ones_like(lengths)
        streams = torch.tensor([t.seed for t in some], device=engine.device)
        rows = Rows(streams, torch.zeros_like(lengths), ones, ones.bool())
        hook = method.hook(rows, forward.layers, valid)
        out = forward(forward.cache(len(some)), ids, valid=valid, all_logits=True, hook=hook)
        nats = cross_entropy(out.logits[:, :-1].float().transpose(1, 2), ids[:, 1:], reduction="none")
        losses += [float(n[-t.answer :].mean()) for n, t in zip(nats, some, strict=True)]
        voids.append(1 - rows.state["lac.pp"].double() / lengths[:, None])
    return Passes(losses, torch.cat(voids))


def planted(
    model: LocalModel, texts: Sequence[Text], other_texts: Sequence[Text], every: int, seed: int
) -> tuple[list[RecipeArm], list[Claim]]:
    """Finds and skips planted layers; settings are chosen on ``other_texts``."""
    at = planting(model.engine.forward.layers)
    arms, claims = [], []
    for strength, label in ((0.0, "planted zeros"), (NEAR, f"planted {NEAR:.0%}")):
        engine = plant(model, strength)
        whole = passes(engine, texts, RandomSkipping(rate_pp=0.0, skip=None))
        found = passes(engine, texts, L2AdaptiveComputation(alpha=DEFAULT, skip=None))
        recall = mean(found.share(at), seed=seed)
        claims.append(
            Claim(
                f"{label}: at alpha = {DEFAULT} the planted layers are Voids for at least 95% of tokens",
                "not reported: a construction of ours",
                recall.value,
                recall.interval,
                at_least=0.95,
                main=True,
            )
        )
        for skip in SKIPS:
            methods = choose(engine, other_texts, skip, every)
            by = {name: passes(engine, texts, method) for name, method in methods.items()}
            for name, method in methods.items():
                arms.append(planted_arm(f"{label}, {skip}: {name}", method, by[name], whole, at, seed))
            if strength == 0:
                claims += losses(label, skip, by, whole, seed)
    return arms, claims


def choose(engine: Engine, texts: Sequence[Text], skip: str, every: int) -> dict[str, LayerSkipping]:
    """LAC and cosine similarity at the setting that skips most for `FREE`; chance skips as many as LAC."""
    whole = sum(passes(engine, texts, RandomSkipping(rate_pp=0.0, skip=None)).loss)

    def most(methods: Sequence[LayerSkipping]) -> tuple[LayerSkipping, float]:
        best, share = methods[0], 0.0  # the mildest setting, where even that costs something
        for method in methods:
            one = passes(engine, texts, method)
            skipped = sum(one.share()) / len(texts)
            if sum(one.loss) - whole <= FREE * len(texts) and skipped > share:
                best, share = method, skipped
        return best, share or sum(passes(engine, texts, best).share()) / len(texts)

    lac, share = most([L2AdaptiveComputation(alpha=a, skip=skip) for a in ALPHAS_TO_TRY[::every]])
    cosine, _ = most([CosineSkipping(threshold=t, skip=skip) for t in THRESHOLDS_TO_TRY[::every]])
    default = L2AdaptiveComputation(alpha=DEFAULT, skip=skip)
    return {"LAC": lac, "random": RandomSkipping(rate_pp=share, skip=skip), "cosine": cosine} | {
        f"LAC {DEFAULT}": default
    }


def planted_arm(
    name: str, method: LayerSkipping, one: Passes, whole: Passes, at: Sequence[int], seed: int
) -> RecipeArm:
    rest = [i for i in range(one.voids.shape[1]) if i not in at]
    more = paired_difference(one.loss, whole.loss, seed=seed)
    figures: dict[str, Figure | float] = {
        "planted_found": mean(one.share(at), seed=seed),
        "others_skipped": mean(one.share(rest), seed=seed),
        "loss": mean(one.loss, seed=seed),
        "loss_added": Figure(more.value, more.interval),
    }
    return RecipeArm(name, figures, described(method))


def losses(label: str, skip: str, by: Mapping[str, Passes], whole: Passes, seed: int) -> list[Claim]:
    lac = paired_difference(by["LAC"].loss, whole.loss, seed=seed)
    chance = paired_difference(by["random"].loss, by["LAC"].loss, seed=seed)
    full = sum(whole.loss) / len(whole.loss)
    return [
        Claim(
            f"{label}, {skip}: skipping what LAC finds adds at most {2 * FREE:g} nats per token",
            "not reported: a construction of ours",
            lac.value,
            lac.interval,
            full,
            at_most=2 * FREE,
            main=True,
        ),
        Claim(
            f"{label}, {skip}: skipping as many by chance adds at least 0.1 nats per token more",
            "not reported",
            chance.value,
            chance.interval,
            full,
            at_least=0.1,
        ),
    ]


# --- the plain model --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """LAC at one alpha and what skips as much: answers by method, and the methods."""

    answers: Mapping[str, Answers]
    methods: Mapping[str, LayerSkipping]


def plain(
    model: LocalModel,
    task: Task,
    examples: Sequence[Example],
    tuning: Sequence[Example],
    texts: Sequence[Text],
    size: Size,
    seed: int,
) -> tuple[list[RecipeArm], list[Claim], dict[str, object], dict[str, float]]:
    """Accuracy and layers used against alpha, in both ways of skipping."""

    def ask(method: LayerSkipping | None, of: Sequence[Example], at: int) -> Answers:
        decoding = Greedy() if method is None else chain([method, Greedy()])
        return answer(model, task, of, decoding, at, limits=size.limits)

    full = ask(None, examples, seed)
    arms = [full.arm("full model", "greedy")]
    claims: list[Claim] = []
    series: dict[str, object] = {}
    chosen: dict[str, float] = {}
    alike = similarities(model, texts)
    tuned_full = sum(ask(None, tuning, seed + 1).right)
    for skip in SKIPS:
        points: dict[float, Point] = {}
        for alpha in size.alphas:
            lac = L2AdaptiveComputation(alpha=alpha, skip=skip)
            own = ask(lac, examples, seed)
            methods = {"LAC": lac, **as_many(own, prompt_lengths(model, examples), alike, skip)}
            others = {name: ask(method, examples, seed) for name, method in methods.items() if name != "LAC"}
            points[alpha] = Point({"LAC": own, **others}, methods)
            arms += [
                point_arm(f"{skip}, alpha {alpha}: {name}", methods[name], found, seed)
                for name, found in points[alpha].answers.items()
            ]
        kept = [
            alpha
            for alpha in size.alphas
            if sum(ask(L2AdaptiveComputation(alpha=alpha, skip=skip), tuning, seed + 1).right)
            >= tuned_full - 0.03 * len(tuning)
        ]
        chosen[skip] = max(kept, default=min(size.alphas))
        claims += accuracy_claims(skip, points, full, chosen[skip], seed)
        series |= curves(skip, points, seed)
    claims += usage_claims(points, seed)
    return arms, claims, series, chosen


def prompt_lengths(model: LocalModel, examples: Sequence[Example]) -> Tensor:
    return torch.tensor([len(model.prompt(e.messages).ids) for e in examples])


def similarities(model: LocalModel, texts: Sequence[Text]) -> Tensor:
    """All cosine similarities of layers' inputs and outputs, along texts."""
    found = []
    for text in texts:
        states = layer_states(model.engine.forward, torch.tensor([text.ids], device=model.engine.device))
        found.append(cosine_similarity(states[:-1].float(), states[1:].float(), dim=-1).flatten())
    return torch.cat(found).cpu()


def as_many(own: Answers, prompts: Tensor, alike: Tensor, skip: str) -> dict[str, LayerSkipping]:
    """The methods that skip as many layer-token pairs as LAC did in ``own``."""
    columns = [c.columns for c in own.completions[0]]
    passed = torch.tensor([len(c.token_ids) - 1 for c in own.completions[0]])
    rates = {}
    for phase, tokens in (("pp", prompts), ("rg", passed)):
        silent = [0.0] * len(columns[0]["layers_pp"])
        active = torch.tensor([c[f"layers_{phase}"] or silent for c in columns], dtype=torch.float64)
        used = (active * tokens[:, None]).sum(0) / tokens.sum().clamp(min=1)
        rates[phase] = (1 - used).clamp(0, 1)
    pairs = (rates["pp"] * prompts.sum() + rates["rg"] * passed.sum()) / (prompts.sum() + passed.sum())
    threshold = float(alike.quantile(1 - float(pairs.mean())).clamp(-1, 1))
    return {
        "random": RandomSkipping(
            rate_pp=float(rates["pp"].mean()), rate_rg=float(rates["rg"].mean()), skip=skip
        ),
        "random by layer": RandomSkipping(
            rate_pp=tuple(rates["pp"].tolist()), rate_rg=tuple(rates["rg"].tolist()), skip=skip
        ),
        "cosine": CosineSkipping(threshold=threshold, skip=skip),
    }


def usage(found: Answers, phase: str) -> list[float]:
    """Per answer, the share of layers used; answers of one token have no RG."""
    values = [c.columns[f"usage_{phase}"] for c in found.completions[0]]
    return [v for v in values if v is not None]


def point_arm(name: str, method: LayerSkipping, found: Answers, seed: int) -> RecipeArm:
    figures = {f"usage_{phase}": mean(usage(found, phase), seed=seed) for phase in ("pp", "rg")}
    kept = {key: found.figures()[key] for key in ("accuracy", "tokens_written")}
    return RecipeArm(name, {**kept, **figures}, described(method))


def accuracy_claims(
    skip: str, points: Mapping[float, Point], full: Answers, alpha: float, seed: int
) -> list[Claim]:
    def pooled(name: str) -> list[float]:
        columns = [p.answers[name].right for p in points.values()]
        return [sum(of_example) / len(columns) for of_example in zip(*columns, strict=True)]

    claims = []
    for name, main in (("random", True), ("random by layer", False), ("cosine", False)):
        d = paired_difference(pooled("LAC"), pooled(name), scale=1.0, seed=seed)
        base = sum(pooled(name)) / len(full.right)
        claims.append(
            Claim(
                f"{skip}: over all alphas, LAC is more accurate than skipping as many by {MEANS[name]}",
                "not reported",
                d.value,
                d.interval,
                base,
                at_least=0.0,
                main=main,
            )
        )
    for one, text in ((alpha, "chosen on other questions"), (DEFAULT, "the paper's default")):
        claims.append(
            accuracy_claim(
                f"{skip}: with LAC at alpha = {one} ({text}) accuracy falls by at most 5 points",
                f"{SAME}: {MMLU}",
                points[one].answers["LAC"],
                full,
                at_least=-0.05,
                seed=seed,
            )
        )
    return claims


def usage_claims(points: Mapping[float, Point], seed: int) -> list[Claim]:
    """What the paper says of usage, of the last way of skipping that was measured."""
    low, high = (points[a].answers["LAC"] for a in (min(points), max(points)))
    fewer = paired_difference(usage(low, "pp"), usage(high, "pp"), scale=1.0, seed=seed)
    both = [c.columns for c in high.completions[0] if c.columns["usage_rg"] is not None]
    apart = paired_difference(
        [c["usage_rg"] for c in both], [c["usage_pp"] for c in both], scale=1.0, seed=seed
    )
    return [
        Claim(
            f"alpha = {max(points)} uses at least 10 points fewer layers than alpha = {min(points)} (PP)",
            "layer use falls as alpha grows",
            fewer.value,
            fewer.interval,
            at_least=0.1,
        ),
        Claim(
            f"at alpha = {max(points)} writing uses at least 5 points more layers than reading",
            "PP and RG activate different layers",
            apart.value,
            apart.interval,
            at_least=0.05,
        ),
    ]


def curves(skip: str, points: Mapping[float, Point], seed: int) -> dict[str, object]:
    """Accuracy and usage against alpha, and how often each layer is active."""
    found: dict[str, object] = {}
    alphas = list(points)
    for name in next(iter(points.values())).answers:
        of = [points[a].answers[name] for a in alphas]
        found[f"{skip}: accuracy, {name}"] = {"x": alphas, "y": [sum(a.right) / len(a.right) for a in of]}
        for phase in ("pp", "rg"):
            values = [mean(usage(a, phase), seed=seed).value for a in of]
            found[f"{skip}: usage {phase}, {name}"] = {"x": alphas, "y": values}
    for alpha in alphas:
        for phase in ("pp", "rg"):
            rows = [c.columns[f"layers_{phase}"] for c in points[alpha].answers["LAC"].completions[0]]
            frequency = torch.tensor([r for r in rows if r is not None]).mean(0).tolist()
            found[f"{skip}: layers {phase}, alpha {alpha}"] = {
                "x": list(range(len(frequency))),
                "y": frequency,
            }
    return found


def described(method: LayerSkipping) -> str:
    from dovetail.comparison.arms import name_of

    return name_of(method)
