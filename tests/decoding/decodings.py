"""Every registered decoding with small parameters: the contract tests run over this list."""

from __future__ import annotations

from dovetail.decoding import (
    AdaptiveTemperature,
    EntropyMinimization,
    Greedy,
    MixtureOfInputs,
    Sampling,
    SelfConsistency,
    SoftThinking,
    chain,
    CosineSkipping,
    L2AdaptiveComputation,
    RandomSkipping,
)

DECODINGS = {
    "adaptive-temperature": AdaptiveTemperature(temperature=0.8),
    "em": EntropyMinimization(temperature=0.8),
    "em+mixture-of-inputs": chain([EntropyMinimization(), MixtureOfInputs()]),
    "em+self-consistency": chain([EntropyMinimization(), SelfConsistency(n=3)]),
    "em+soft-thinking": chain([EntropyMinimization(), SoftThinking()]),
    "greedy": Greedy(),
    "mixture-of-inputs": MixtureOfInputs(),
    "mixture-of-inputs:candidates=5": MixtureOfInputs(candidates=5, top_k=20),
    "sampling": Sampling(),
    "sampling:filtered": Sampling(temperature=0.7, top_k=20, top_p=0.9, min_p=0.02),
    "self-consistency": SelfConsistency(n=3),
    "soft-thinking": SoftThinking(entropy_threshold=4.0, length_threshold=6),
    "soft-thinking:noise=gumbel": SoftThinking(noise="gumbel"),
    "soft-thinking:noise=dirichlet": SoftThinking(noise="dirichlet"),
    "cosine-skipping": CosineSkipping(threshold=0.8, temperature=0.8),
    "em+void-lac": chain([EntropyMinimization(), L2AdaptiveComputation(temperature=0.8)]),
    "random-skipping": RandomSkipping(skip="residual", temperature=0.8),
    "void-lac": L2AdaptiveComputation(temperature=0.8),
    "void-lac:skip=residual": L2AdaptiveComputation(alpha=0.4, skip="residual", temperature=0.8),
    "void-lac+soft-thinking": chain([L2AdaptiveComputation(), SoftThinking()]),
    "void-lac+self-consistency": chain([L2AdaptiveComputation(), SelfConsistency(n=3)]),
}
