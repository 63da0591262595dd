"""The catalog: sixty published systems, where each lives in the house, and whether it works yet.

Data only: imports nothing heavy, so any door may read it. ``status`` is written by hand and held to what is
there by ``tests/test_catalog.py``: see :func:`missing`.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from dovetail.core.errors import UnknownName

Status = Literal["works", "partial", "planned"]

_PACKAGE = Path(__file__).resolve().parent
# The repository's root in a checkout; no such folder for an installed package.
_ROOT = _PACKAGE.parents[1]


@dataclass(frozen=True, slots=True)
class Part:
    """A module (dotted, below ``dovetail``) and the public names that a system keeps in it."""

    module: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class System:
    """One published system.

    Attributes:
        id: as ``dovetail show``, ``dovetail reproduce`` and ``results/<id>.json`` name it.
        title: what people call it.
        summary: what it does, in one line.
        paper, arxiv, venue: the paper's title, arXiv number, and venue ("" if none is known).
        parts: where it lives; the first is its home.
        extras: what to install beside the core: ``pip install 'dovetail[...]'``.
        status: "works": every part, a runnable recipe, a measured result and a documentation page are there;
            "partial": its home is there and something else is missing; "planned": nothing to rely on yet.
    """

    id: str
    title: str
    summary: str
    paper: str
    arxiv: str
    venue: str
    parts: tuple[Part, ...]
    extras: tuple[str, ...] = ()
    status: Status = "planned"

    @property
    def slot(self) -> str:
        """The folder of its home: decoding, rewards, training, ..."""
        return self.parts[0].module.partition(".")[0]

    @property
    def module(self) -> str:
        """Its home as an import path."""
        return f"dovetail.{self.parts[0].module}"

    @property
    def names(self) -> tuple[str, ...]:
        """Its public names, of all parts."""
        return tuple(name for part in self.parts for name in part.names)

    @property
    def recipe(self) -> str:
        """The import path of its recipe (``dovetail reproduce <id>`` runs it)."""
        return f"dovetail.recipes.{module_name(self.id)}"

    @property
    def result(self) -> str | None:
        """Its measured result, ``results/<id>.json`` below the repository; None before the first one."""
        return f"results/{self.id}.json" if result_path(self.id).is_file() else None

    @property
    def page(self) -> str:
        """Its documentation page relative to the repository."""
        return f"docs/methods/{self.id}.md"

    @property
    def url(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}"

    def as_dict(self) -> dict[str, Any]:
        """The entry as ``dovetail methods --json`` prints it."""
        return {
            "id": self.id,
            "title": self.title,
            "summary": self.summary,
            "paper": self.paper,
            "arxiv": self.arxiv,
            "venue": self.venue,
            "slot": self.slot,
            "module": self.module,
            "names": list(self.names),
            "parts": {f"dovetail.{part.module}": list(part.names) for part in self.parts},
            "extras": list(self.extras),
            "status": self.status,
            "recipe": self.recipe,
            "result": self.result,
        }


def system(id: str) -> System:
    """The system of that id; ``UnknownName`` suggests the nearest ones."""
    for found in SYSTEMS:
        if found.id == id:
            return found
    raise UnknownName("method", id, [s.id for s in SYSTEMS])


def systems(slot: str | None = None, status: Status | None = None) -> list[System]:
    """All systems in the catalog's order, or those with a part in a slot, or of a status.

    Raises:
        UnknownName: no such slot or status.
    """
    slots = {part.module.split(".")[0] for s in SYSTEMS for part in s.parts}
    if slot is not None and slot not in slots:
        raise UnknownName("slot", slot, slots)
    if status is not None and status not in get_args(Status):
        raise UnknownName("status", status, get_args(Status))
    return [
        s
        for s in SYSTEMS
        if (slot is None or any(part.module.split(".")[0] == slot for part in s.parts))
        and (status is None or s.status == status)
    ]


def module_name(id: str) -> str:
    """The Python name of an id's recipe: ``soft_thinking`` for soft-thinking, ``_3dtown`` for 3dtown."""
    name = id.replace("-", "_")
    return name if name.isidentifier() else f"_{name}"


def results_folder() -> Path:
    """Where measured results lie: ``results/`` of a checkout, else the copy inside the installed package."""
    checkout = _ROOT / "results"
    return checkout if checkout.is_dir() and (_ROOT / "pyproject.toml").is_file() else _PACKAGE / "_results"


def result_path(id: str) -> Path:
    """Where a system's measured result lies (it need not exist)."""
    return results_folder() / f"{id}.json"


def missing(system: System) -> list[str]:
    """What a system lacks to be called "works", in words; [] if nothing.

    Modules are parsed, not imported: the catalog is readable without a system's extras. The documentation
    page is looked for only in a checkout, where alone it is shipped.
    """
    lacks = []
    for part in system.parts:
        names = _public_names(part.module)
        if names is None:
            lacks.append(f"module dovetail.{part.module}")
        else:
            lacks += [f"name dovetail.{part.module}.{name}" for name in part.names if name not in names]
    if not (_PACKAGE / "recipes" / f"{module_name(system.id)}.py").is_file():
        lacks.append(f"recipe {system.recipe}")
    path = result_path(system.id)
    if not path.is_file():
        lacks.append(f"result results/{system.id}.json")
    elif not any(claim["main"] for claim in json.loads(path.read_text(encoding="utf-8"))["claims"]):
        lacks.append(f"a main claim in results/{system.id}.json")
    if (_ROOT / "docs").is_dir() and not (_ROOT / system.page).is_file():
        lacks.append(f"page {system.page}")
    return lacks


@cache
def _public_names(module: str) -> frozenset[str] | None:
    """Names that a module defines or imports at its top level; None if there is no such file."""
    path = _PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.is_file():
        return None
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return frozenset(names)


SYSTEMS: tuple[System, ...] = (
    System(
        id="em",
        title="Entropy minimization",
        summary="improve reasoning by making the model more confident, with no labels",
        paper="The Unreasonable Effectiveness of Entropy Minimization in LLM Reasoning",
        arxiv="2505.15134",
        venue="NeurIPS 2025",
        parts=(
            Part("decoding.entropy_minimization", ("EntropyMinimization",)),
            Part("training.objectives.entropy", ("EntropyFinetuning",)),
            Part("rewards.entropy", ("TokenEntropy", "SequenceEntropy")),
        ),
        status="works",
    ),
    System(
        id="mixture-of-inputs",
        title="Mixture of Inputs",
        summary="feed back a Bayesian blend of the sampled token and its whole distribution, without training",
        paper="Text Generation Beyond Discrete Token Sampling",
        arxiv="2505.14827",
        venue="",
        parts=(Part("decoding.mixture_of_inputs", ("MixtureOfInputs",)),),
        status="works",
    ),
    System(
        id="soft-thinking",
        title="Soft Thinking",
        summary="reason with probability-weighted concept tokens instead of sampled tokens, then answer normally",
        paper="Soft Thinking: Unlocking the Reasoning Potential of LLMs in Continuous Concept Space",
        arxiv="2505.15778",
        venue="NeurIPS 2025",
        parts=(Part("decoding.soft_thinking", ("SoftThinking",)),),
        status="works",
    ),
    System(
        id="banditspec",
        title="BanditSpec",
        summary="choose the speculative-decoding configuration online, round by round, with a bandit",
        paper="BanditSpec: Adaptive Speculative Decoding via Bandit Algorithms",
        arxiv="2505.15141",
        venue="ICML 2025",
        parts=(Part("decoding.bandit_speculation", ("BanditSpeculation",)),),
        status="works",
    ),
    System(
        id="dkv-cache",
        title="dKV-Cache",
        summary="a delayed key-value cache for masked diffusion language models (with the sampler it needs)",
        paper="dKV-Cache: The Cache for Diffusion Language Models",
        arxiv="2505.15781",
        venue="",
        parts=(Part("decoding.delayed_kv_cache", ("DelayedKVCache",)),),
        status="works",
    ),
    System(
        id="void-lac",
        title="L2 Adaptive Computation (LAC)",
        summary="find layers that add almost nothing to a token, by the change of the L2 norm, and skip them",
        paper="Void in Language Models",
        arxiv="2505.14467",
        venue="",
        parts=(Part("decoding.layer_skipping", ("L2AdaptiveComputation",)),),
        status="works",
    ),
    System(
        id="vg-search",
        title="VG-Search",
        summary="one search that becomes beam search or Best-of-N by choosing how often the verifier is called",
        paper="Rethinking Optimal Verification Granularity for Compute-Efficient Test-Time Scaling",
        arxiv="2505.11730",
        venue="NeurIPS 2025",
        parts=(Part("decoding.verification_granularity", ("VGSearch", "AdaptiveVGSearch")),),
        status="works",
    ),
    System(
        id="reasoning-transfer",
        title="Reasoning transfer",
        summary="a large model answers briefly, or re-uses a small model's reasoning instead of writing its own",
        paper="Rethinking Model Efficiency: Multi-Agent Inference with Large Models",
        arxiv="2604.04929",
        venue="",
        parts=(
            Part("decoding.reasoning_transfer", ("ReasoningTransfer",)),
            Part("decoding.latency", ("LatencyModel", "fit_latency_model", "break_even_tokens")),
        ),
        status="works",
    ),
    System(
        id="videoauto-r1",
        title="VideoAuto-R1",
        summary="answer first, think only when the first answer is not confident, then answer again",
        paper="VideoAuto-R1: Video Auto Reasoning via Thinking Once, Answering Twice",
        arxiv="2601.05175",
        venue="CVPR 2026",
        parts=(
            Part("decoding.answer_twice", ("ThinkOnceAnswerTwice",)),
            Part("rewards.dual_answer", ("DualAnswer",)),
        ),
        status="works",
    ),
    System(
        id="lsk-extractor",
        title="LSKExtractor",
        summary="learn, per topic cluster, in which language a model answers best, and use it at test time",
        paper="Language Specific Knowledge: Do Models Know Better in X than in English?",
        arxiv="2505.14990",
        venue="",
        parts=(Part("prompting.language_knowledge", ("LanguageKnowledgeRouter",)),),
        status="works",
    ),
    System(
        id="t2s-bench",
        title="T2S-Bench and Structure of Thought",
        summary="have the model draw the text's graph before it answers, and measure that skill",
        paper="T2S-Bench & Structure-of-Thought: Benchmarking and Prompting Comprehensive Text-to-Structure Reasoning",
        arxiv="2603.03790",
        venue="",
        parts=(
            Part("prompting.structure_of_thought", ("StructureOfThought",)),
            Part("benchmarks.text_to_structure", ("TextToStructure",)),
        ),
        status="works",
    ),
    System(
        id="prior-prompt",
        title="Prior prompt engineering",
        summary="the instruction put before every training query during RL, so that the model internalises it",
        paper="Prior Prompt Engineering for Reinforcement Fine-Tuning",
        arxiv="2505.14157",
        venue="EMNLP 2025",
        parts=(
            Part("prompting.prior_prompts", ("PriorPrompt",)),
            Part("rewards.tagged_format", ("TaggedFormat",)),
        ),
        status="works",
    ),
    System(
        id="icl-speech",
        title="In-context speech adaptation",
        summary="adapt a speech LLM to a speaker by showing transcribed examples in the prompt",
        paper="In-Context Learning Boosts Speech Recognition via Human-like Adaptation to Speakers and Language Varieties",
        arxiv="2505.14887",
        venue="EMNLP 2025",
        parts=(Part("prompting.in_context_speech", ("InContextSpeech",)),),
        extras=("speech",),
    ),
    System(
        id="bleuberi",
        title="BLEUBERI",
        summary="BLEU against references as the RL reward for open-ended instructions, on the hardest prompts",
        paper="BLEUBERI: BLEU is a surprisingly effective reward for instruction following",
        arxiv="2505.11080",
        venue="NeurIPS 2025",
        parts=(Part("rewards.bleu", ("Bleu",)),),
        status="works",
    ),
    System(
        id="laser",
        title="LASER",
        summary="length-based step rewards that shorten chains of thought, and the family of earlier ones",
        paper="Learn to Reason Efficiently with Adaptive Length-based Reward Shaping",
        arxiv="2505.15612",
        venue="ICLR 2026",
        parts=(Part("rewards.length", ("Laser", "LaserD", "LaserDE")),),
        status="works",
    ),
    System(
        id="asrr",
        title="Adaptive Self-Recovery Reasoning",
        summary="train under a no-thinking prefix; a length penalty switches on once the group is accurate",
        paper="When to Continue Thinking: Adaptive Thinking Mode Switching for Efficient Reasoning",
        arxiv="2505.15400",
        venue="EMNLP 2025 Findings",
        parts=(Part("rewards.self_recovery", ("AdaptiveSelfRecovery",)),),
        status="works",
    ),
    System(
        id="convsearch-r1",
        title="ConvSearch-R1",
        summary="train a conversational query rewriter from retrieval ranks alone, with no reference rewrites",
        paper="ConvSearch-R1: Enhancing Query Reformulation for Conversational Search with Reasoning via Reinforcement Learning",
        arxiv="2505.15776",
        venue="EMNLP 2025",
        parts=(
            Part("rewards.rank_incentive", ("RankIncentive",)),
            Part("training.data.query_reformulation", ("QueryReformulation",)),
        ),
        extras=("retrieval",),
        status="works",
    ),
    System(
        id="rlvr-world",
        title="RLVR-World",
        summary="post-train a world model with RL whose reward is the metric of the decoded next state",
        paper="RLVR-World: Training World Models with Reinforcement Learning",
        arxiv="2505.13934",
        venue="NeurIPS 2025",
        parts=(
            Part("rewards.world_model", ("TransitionMetric",)),
            Part("benchmarks.text_worlds", ("TextWorlds",)),
            Part("rewards.frames", ("frame_reward", "repetition_rate")),
        ),
        status="works",
    ),
    System(
        id="univg-r1",
        title="UniVG-R1",
        summary="multi-image visual grounding: IoU reward and a loss weight that favours hard samples",
        paper="UniVG-R1: Reasoning Guided Universal Visual Grounding with Reinforcement Learning",
        arxiv="2505.14231",
        venue="",
        parts=(
            Part("rewards.grounding", ("BoxIoU", "BoxFormat")),
            Part("training.objectives.difficulty", ("DifficultyWeights",)),
        ),
        status="works",
    ),
    System(
        id="barrel",
        title="BARREL",
        summary='train a reasoning model to answer what it knows and to say "I don\'t know" otherwise',
        paper="BARREL: Boundary-Aware Reasoning for Factual and Reliable LRMs",
        arxiv="2505.13529",
        venue="ICLR 2026",
        parts=(
            Part("training.data.boundary_aware", ("BoundaryAware",)),
            Part("rewards.boundary", ("BoundaryReward",)),
        ),
        status="works",
    ),
    System(
        id="rl-tango",
        title="RL Tango",
        summary="train a step-by-step generator and a generative step verifier together",
        paper="RL Tango: Reinforcing Generator and Verifier Together for Language Reasoning",
        arxiv="2505.15034",
        venue="NeurIPS 2025",
        parts=(
            Part("training.tango", ("Tango", "AlphaSchedule", "ClassBalancer")),
            Part("rewards.verification", ("VerifierReward", "Layout")),
        ),
        status="works",
    ),
    System(
        id="ccl",
        title="Customized Curriculum Learning",
        summary="rank problems by the model's own success rate, hint the hardest, train easy to hard",
        paper="Progressive Mastery: Customized Curriculum Learning with Guided Prompting for Mathematical Reasoning",
        arxiv="2506.04065",
        venue="",
        parts=(Part("training.data.curriculum", ("CustomizedCurriculum", "GuidedPrompting")),),
        status="works",
    ),
    System(
        id="hallucination-tax",
        title="Hallucination tax",
        summary="measure how RL finetuning destroys refusal; restore it with a tenth of synthetic unanswerable math",
        paper="The Hallucination Tax of Reinforcement Finetuning",
        arxiv="2505.13988",
        venue="EMNLP 2025 Findings",
        parts=(Part("training.data.unanswerable", ("UnanswerableMix", "SyntheticUnanswerableMath")),),
        status="works",
    ),
    System(
        id="lrm-safety",
        title="LRM-Safety",
        summary="a small safety fine-tuning set for reasoning models; refusal, over-refusal and reasoning measured",
        paper="How Should We Enhance the Safety of Large Reasoning Models: An Empirical Study",
        arxiv="2505.15404",
        venue="ACL 2026",
        parts=(Part("training.data.safety", ("SafetyMix",)), Part("benchmarks.refusal", ("RefusalBench",))),
        status="works",
    ),
    System(
        id="reward-hacking-pch",
        title="Reward-hacking diagnostics",
        summary="measure when a policy gains proxy reward without true quality, and brake",
        paper="Reward Hacking in the Era of Large Models: Mechanisms, Emergent Misalignment, Challenges",
        arxiv="2604.13602",
        venue="",
        parts=(
            Part("training.monitors.proxy_gap", ("ProxyGap",)),
            Part("audits.reward_hacking", ("RewardHackingAudit",)),
            Part("training.monitors.adaptive_kl", ("AdaptiveKL",)),
            Part("training.monitors.early_stop", ("EarlyStopOnGold", "EarlyStopOnOutliers")),
            Part("rewards.ensemble", ("EnsembleReward",)),
            Part("rewards.refreshing", ("RefreshingEvaluator",)),
        ),
        status="works",
    ),
    System(
        id="mmada",
        title="MMaDA",
        summary="one masked-diffusion transformer for text, image understanding and image generation",
        paper="MMaDA: Multimodal Large Diffusion Language Models",
        arxiv="2505.15809",
        venue="NeurIPS 2025",
        parts=(Part("models.mmada", ("MMaDA",)), Part("training.objectives.unigrpo", ("UniGRPO",))),
        extras=("vision",),
    ),
    System(
        id="vard",
        title="VARD",
        summary="fine-tune a diffusion model with a learned per-step value function and a KL leash",
        paper="VARD: Efficient and Dense Fine-Tuning for Diffusion Models with Value-based RL",
        arxiv="2505.15791",
        venue="",
        parts=(Part("training.objectives.vard", ("VARD",)),),
        extras=("diffusion",),
    ),
    System(
        id="fedqsn",
        title="FedQSN",
        summary="federated fine-tuning where clients only see a masked, quantised proxy of the server's model",
        paper="Enhancing Model Privacy in Federated Learning with Random Masking and Quantization",
        arxiv="2508.18911",
        venue="EMNLP 2025 Findings",
        parts=(Part("training.federated", ("FedQSN",)),),
        extras=("federated",),
    ),
    System(
        id="qat-scaling",
        title="QAT scaling law",
        summary="predict the loss gap of 4-bit quantisation-aware training from model size, tokens and group size",
        paper="Scaling Law for Quantization-Aware Training",
        arxiv="2505.14302",
        venue="",
        parts=(
            Part("training.quantization", ("QuantizationAwareTraining",)),
            Part("audits.scaling_law", ("QATScalingLaw",)),
        ),
    ),
    System(
        id="diffusion-embed",
        title="DiffEmbed",
        summary="text embeddings from a masked-diffusion language model by mean pooling and contrastive tuning",
        paper="Diffusion vs. Autoregressive Language Models: A Text Embedding Perspective",
        arxiv="2505.15045",
        venue="EMNLP 2025",
        parts=(
            Part("models.embedding", ("DiffusionEmbedder",)),
            Part("training.contrastive", ("ContrastiveTuning",)),
            Part("training.data.reasonaug", ("build_reasonaug",)),
        ),
        extras=("embeddings",),
        status="works",
    ),
    System(
        id="vittle",
        title="Vittle",
        summary="information-bottleneck layer inside a multimodal LLM for robustness to distribution shift",
        paper="Visual Instruction Bottleneck Tuning",
        arxiv="2505.13946",
        venue="NeurIPS 2025",
        parts=(Part("models.visual_bottleneck", ("VisualBottleneck",)),),
        extras=("vision",),
    ),
    System(
        id="dico",
        title="DiCo",
        summary="a pure-convolution U-shaped backbone for (latent) diffusion that replaces DiT's self-attention",
        paper="DiCo: Revitalizing ConvNets for Scalable and Efficient Diffusion Modeling",
        arxiv="2505.11196",
        venue="NeurIPS 2025",
        parts=(Part("models.dico", ("DiCo",)),),
        extras=("diffusion",),
    ),
    System(
        id="llama-smop",
        title="Llama-SMoP",
        summary="sparse mixture of projectors between speech/lip encoders and an LLM (AVSR)",
        paper="Scaling and Enhancing LLM-based AVSR: A Sparse Mixture of Projectors Approach",
        arxiv="2505.14336",
        venue="Interspeech 2025",
        parts=(Part("models.projectors", ("SparseMixtureOfProjectors",)),),
        extras=("speech",),
    ),
    System(
        id="proxyv",
        title="ProxyV",
        summary="a few proxy tokens do the heavy layers for all vision tokens",
        paper="Streamline Without Sacrifice - Squeeze out Computation Redundancy in LMM",
        arxiv="2505.15816",
        venue="ICML 2025",
        parts=(Part("models.proxy_tokens", ("ProxyVisionTokens",)),),
        extras=("vision",),
    ),
    System(
        id="toto-boom",
        title="Toto and BOOM",
        summary="decoder-only multivariate forecaster for observability metrics, and its benchmark",
        paper="This Time is Different: An Observability Perspective on Time Series Foundation Models",
        arxiv="2505.14766",
        venue="",
        parts=(Part("models.toto", ("Toto",)), Part("benchmarks.boom", ("Boom",))),
    ),
    System(
        id="vid2world",
        title="Vid2World",
        summary="a bidirectional video diffusion model made a causal, action-conditioned world model",
        paper="Vid2World: Crafting Video Diffusion Models to Interactive World Models",
        arxiv="2505.14357",
        venue="ICLR 2026",
        parts=(Part("models.video_world", ("VideoWorldModel",)),),
        extras=("diffusion",),
    ),
    System(
        id="georanker",
        title="GeoRanker",
        summary="rank candidate GPS positions of a photo by predicted nearness",
        paper="GeoRanker: Distance-Aware Ranking for Worldwide Image Geolocalization",
        arxiv="2505.13731",
        venue="NeurIPS 2025",
        parts=(Part("models.georanker", ("GeoRanker",)),),
        extras=("vision",),
    ),
    System(
        id="mmtok",
        title="MMTok",
        summary="choose image tokens that together cover both the question and the image",
        paper="MMTok: Multimodal Coverage Maximization for Efficient Inference of VLMs",
        arxiv="2508.18264",
        venue="ICLR 2026",
        parts=(Part("reduction.coverage", ("MMTok",)),),
        extras=("vision",),
    ),
    System(
        id="tempo",
        title="Tempo",
        summary="compress each video segment with a small VLM, spending tokens where the question needs them",
        paper="Small Vision-Language Models are Smart Compressors for Long Video Understanding",
        arxiv="2604.08120",
        venue="",
        parts=(
            Part("reduction.temporal_allocation", ("AdaptiveTokenAllocation",)),
            Part("models.tempo", ("Tempo",)),
        ),
        extras=("vision",),
    ),
    System(
        id="verifybench",
        title="VerifyBench",
        summary="measure how often a reference-based verifier judges an answer rightly",
        paper="VerifyBench: Benchmarking Reference-based Reward Systems for Large Language Models",
        arxiv="2505.15801",
        venue="ICLR 2026",
        parts=(Part("benchmarks.verifier", ("VerifyBench",)),),
    ),
    System(
        id="webnovelbench",
        title="WebNovelBench",
        summary="place a story-writing model on the quality distribution of human web novels",
        paper="WebNovelBench: Placing LLM Novelists on the Web Novel Distribution",
        arxiv="2505.14818",
        venue="EACL 2026 Findings",
        parts=(Part("benchmarks.novel", ("WebNovelBench",)),),
    ),
    System(
        id="lmgame-bench",
        title="lmgame-Bench",
        summary="language models play small video games through one Gymnasium API, with scaffolds to switch",
        paper="lmgame-Bench: How Good are LLMs at Playing Games?",
        arxiv="2505.15146",
        venue="ICLR 2026",
        parts=(Part("benchmarks.games", ("GameBench",)),),
        extras=("games",),
    ),
    System(
        id="multihal",
        title="MultiHal",
        summary="knowledge-graph paths between question and answer: does giving them cut hallucination?",
        paper="MultiHal: Multilingual Dataset for Knowledge-Graph Grounded Evaluation of LLM Hallucinations",
        arxiv="2505.14101",
        venue="",
        parts=(Part("benchmarks.knowledge_grounding", ("MultiHal",)),),
    ),
    System(
        id="humanibench",
        title="HumaniBench",
        summary="seven image-and-text tasks scored on seven human-centred principles",
        paper="HumaniBench: A Human-Centric Framework for Large Multimodal Models Evaluation",
        arxiv="2505.11454",
        venue="",
        parts=(Part("benchmarks.human_centric", ("HumaniBench",)),),
        extras=("vision",),
    ),
    System(
        id="ajailbench",
        title="AJailBench",
        summary="audio perturbations and worst-case search to test the robustness of one's own audio model",
        paper="Audio Jailbreak: An Open Comprehensive Benchmark for Jailbreaking Large Audio-Language Models",
        arxiv="2505.15406",
        venue="",
        parts=(Part("benchmarks.audio_robustness", ("AudioPerturbationToolkit",)),),
        extras=("speech",),
    ),
    System(
        id="vox-profile",
        title="Vox-Profile",
        summary="predict speaker and speech traits from one utterance, and audit speech systems with them",
        paper="Vox-Profile: A Speech Foundation Model Benchmark for Characterizing Diverse Speaker and Speech Traits",
        arxiv="2505.14648",
        venue="",
        parts=(Part("benchmarks.voice_traits", ("VoxProfile",)),),
        extras=("speech",),
    ),
    System(
        id="benchmark-squared",
        title="Benchmark^2",
        summary="score how good a benchmark is, and cut it down to its best items",
        paper="Benchmark^2: Systematic Evaluation of LLM Benchmarks",
        arxiv="2601.03986",
        venue="",
        parts=(Part("audits.benchmark_quality", ("BenchmarkSquared",)),),
    ),
    System(
        id="litmus-values",
        title="LitmusValues",
        summary="a model's value priorities from its choices in dilemmas, and their link to risk",
        paper="Will AI Tell Lies to Save Sick Children? Litmus-Testing AI Values Prioritization with AIRiskDilemmas",
        arxiv="2505.14633",
        venue="ICLR 2026",
        parts=(Part("audits.value_priorities", ("LitmusValues",)),),
    ),
    System(
        id="biaslens",
        title="BiasLens",
        summary="bias from the geometry of concept directions inside a model, with no test set",
        paper="Evaluate Bias without Manual Test Sets: A Concept Representation Perspective for LLMs",
        arxiv="2505.15524",
        venue="",
        parts=(Part("audits.concept_bias", ("BiasLens",)),),
    ),
    System(
        id="coin",
        title="CoIn",
        summary="check how many hidden reasoning tokens were really produced, and that they are about the answer",
        paper="CoIn: Counting the Invisible Reasoning Tokens in Commercial Opaque LLM APIs",
        arxiv="2505.13778",
        venue="",
        parts=(Part("audits.token_count", ("CoIn",)),),
    ),
    System(
        id="backdoor-extraction",
        title="Backdoor data extraction",
        summary="does a base model make its fine-tune leak the training queries? with planted canaries",
        paper="Be Careful When Fine-tuning On Open-Source LLMs: Your Fine-tuning Data Could Be Secretly Stolen!",
        arxiv="2505.15656",
        venue="",
        parts=(Part("audits.data_extraction", ("DataExtractionAudit",)),),
    ),
    System(
        id="steem",
        title="SteeM",
        summary="dial how strongly an answer leans on retrieved memory, from 1 (fresh start) to 5 (continue the log)",
        paper="Controllable Memory Usage: Balancing Anchoring and Innovation in Long-Term Human-Agent Interaction",
        arxiv="2601.05107",
        venue="",
        parts=(Part("agents.steerable_memory", ("SteerableMemory",)),),
    ),
    System(
        id="piflow",
        title="PiFlow",
        summary="steer a hypothesise-and-test loop by scoring the scientific principles tried so far",
        paper="PiFlow: Principle-aware Scientific Discovery with Multi-Agent Collaboration",
        arxiv="2505.15047",
        venue="",
        parts=(Part("agents.principle_flow", ("PiFlow",)),),
    ),
    System(
        id="deliberation-on-priors",
        title="Deliberation on Priors",
        summary="knowledge-graph QA: generate relation paths, then pick, ground, verify and backtrack",
        paper="Deliberation on Priors: Trustworthy Reasoning of Large Language Models on Knowledge Graphs",
        arxiv="2505.15210",
        venue="NeurIPS 2025",
        parts=(Part("agents.graph_reasoning", ("DeliberationOnPriors",)),),
    ),
    System(
        id="web-shepherd",
        title="Web-Shepherd",
        summary="a process reward model for web agents: write a checklist, score each step by how far it is met",
        paper="Web-Shepherd: Advancing PRMs for Reinforcing Web Agents",
        arxiv="2505.15277",
        venue="NeurIPS 2025",
        parts=(Part("agents.web_reward", ("WebShepherd",)),),
    ),
    System(
        id="pc-agent-e",
        title="PC Agent-E",
        summary="a computer-use agent from a few hundred trajectories, boosted with alternative actions",
        paper="Efficient Agent Training for Computer Use",
        arxiv="2505.13909",
        venue="ICLR 2026",
        parts=(Part("agents.computer_use", ("TrajectoryBoost",)),),
    ),
    System(
        id="automat",
        title="AutoMat",
        summary="from an atomic-resolution STEM image to a relaxed crystal structure file by a tool-calling agent",
        paper="AutoMat: Enabling Automated Crystal Structure Reconstruction from Microscopy via Agentic Tool Use",
        arxiv="2505.12650",
        venue="",
        parts=(Part("agents.crystal_reconstruction", ("AutoMat",)),),
        extras=("crystal",),
    ),
    System(
        id="mixture-of-thought",
        title="Mixture-of-Thought",
        summary="reason in natural language, code and truth tables; vote over the three",
        paper="Learning to Reason via Mixture-of-Thought for Logical Reasoning",
        arxiv="2505.15817",
        venue="ICLR 2026",
        parts=(Part("agents.mixture_of_thought", ("MixtureOfThought",)),),
    ),
    System(
        id="ia-t2i",
        title="IA-T2I",
        summary="a text-to-image model looks up a reference image when the prompt names something it may not know",
        paper="IA-T2I: Internet-Augmented Text-to-Image Generation",
        arxiv="2505.15779",
        venue="",
        parts=(Part("agents.internet_augmented_image", ("InternetAugmentedT2I",)),),
        extras=("diffusion",),
    ),
    System(
        id="3dtown",
        title="3DTown",
        summary="a whole 3D scene from one top-down image, region by region, by masked rectified-flow inpainting",
        paper="Constructing a 3D Town from a Single Image",
        arxiv="2505.15765",
        venue="",
        parts=(Part("agents.town_from_image", ("Town3D",)),),
        extras=("vision",),
    ),
)
