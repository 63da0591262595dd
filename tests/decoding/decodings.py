"""Every registered decoding with small parameters: the contract tests run over this list."""

from __future__ import annotations

from small_model import SmallModel

from dovetail.decoding import (
    DVTS,
    AdaptiveTemperature,
    AdaptiveVGSearch,
    BanditSpeculation,
    BestOfN,
    CosineSkipping,
    DelayedKVCache,
    Diffusion,
    EntropyMinimization,
    Greedy,
    L2AdaptiveComputation,
    MixtureOfInputs,
    RandomSkipping,
    ReasoningTransfer,
    Sampling,
    SelfConsistency,
    SoftThinking,
    ThinkOnceAnswerTwice,
    VGSearch,
    chain,
)

DECODINGS = {
    "adaptive-temperature": AdaptiveTemperature(temperature=0.8),
    "adaptive-vg-search": AdaptiveVGSearch(
        profile=((1, 4, 0.7, 9e6), (2, 4, 0.7, 6e6)), search=VGSearch(n=4, beam_width=2, delimiter="A")
    ),
    "banditspec": BanditSpeculation(inner=Sampling(0.8)),
    "banditspec:policy=exp3": BanditSpeculation("exp3", shared=True, reward="speed", inner=Sampling(0.5)),
    "best-of-n": BestOfN(n=3),
    "cosine-skipping": CosineSkipping(threshold=0.8, temperature=0.8),
    "dvts": DVTS(n=4, beam_width=2, max_steps=4, delimiter="A"),
    "em": EntropyMinimization(temperature=0.8),
    "em+banditspec": chain([EntropyMinimization(), BanditSpeculation(inner=Sampling())]),
    "em+mixture-of-inputs": chain([EntropyMinimization(), MixtureOfInputs()]),
    "em+self-consistency": chain([EntropyMinimization(), SelfConsistency(n=3)]),
    "em+soft-thinking": chain([EntropyMinimization(), SoftThinking()]),
    "em+vg-search": chain([EntropyMinimization(), VGSearch(delimiter="A")]),
    "em+videoauto-r1": chain(
        [EntropyMinimization(), ThinkOnceAnswerTwice(instruction="none", inner=Sampling())]
    ),
    "em+void-lac": chain([EntropyMinimization(), L2AdaptiveComputation(temperature=0.8)]),
    "greedy": Greedy(),
    "mixture-of-inputs": MixtureOfInputs(),
    "mixture-of-inputs:candidates=5": MixtureOfInputs(candidates=5, top_k=20),
    "random-skipping": RandomSkipping(skip="residual", temperature=0.8),
    "reasoning-transfer": ReasoningTransfer(SmallModel(), inner=Sampling(), max_short=12),
    "reasoning-transfer:policy=always_transfer": ReasoningTransfer(
        SmallModel(), "always_transfer", select="all", inner=Sampling()
    ),
    "sampling": Sampling(),
    "sampling:filtered": Sampling(temperature=0.7, top_k=20, top_p=0.9, min_p=0.02),
    "self-consistency": SelfConsistency(n=3),
    "soft-thinking": SoftThinking(entropy_threshold=4.0, length_threshold=6),
    "soft-thinking:noise=gumbel": SoftThinking(noise="gumbel"),
    "soft-thinking:noise=dirichlet": SoftThinking(noise="dirichlet"),
    "vg-search": VGSearch(n=4, beam_width=2, max_steps=5, delimiter="A"),
    "vg-search:g=2": VGSearch(n=4, beam_width=2, g=2, max_steps=6, delimiter="A", lookahead=1, agg="min"),
    # "none": the paper's instruction is longer than the tiny networks' context
    "videoauto-r1": ThinkOnceAnswerTwice(instruction="none", inner=Sampling(), max_first_tokens=6),
    "void-lac": L2AdaptiveComputation(temperature=0.8),
    "void-lac:skip=residual": L2AdaptiveComputation(alpha=0.4, skip="residual", temperature=0.8),
    "void-lac+soft-thinking": chain([L2AdaptiveComputation(), SoftThinking()]),
    "void-lac+self-consistency": chain([L2AdaptiveComputation(), SelfConsistency(n=3)]),
}

# Masked diffusion models write with these, and only with these: `test_delayed_kv_cache` runs them.
DIFFUSIONS = {
    "diffusion": Diffusion(temperature=0.7),
    "dkv-cache": DelayedKVCache(temperature=0.7),
    "dkv-cache:variant=greedy": DelayedKVCache(
        variant="greedy", remasking="random", window=2, refresh_interval=4, steps=3
    ),
    "dkv-cache:variant=pd": DelayedKVCache(variant="pd", remasking="entropy", temperature=0.7),
}
