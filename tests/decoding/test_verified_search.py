"""What the searches share: Best-of-N, subtrees, how an answer is picked, what is counted."""

from __future__ import annotations

import pytest
import simulated

from dovetail.core import Completion, InvalidValue, Limits
from dovetail.decoding import DVTS, BestOfN, Sampling, TextVerifier, VGSearch, chain
from dovetail.decoding.self_consistency import resampled
from dovetail.decoding.verified_search import weights_per_token


def scorer(scores):
    """A verifier that gives a solution the score of the first key its text contains."""
    return TextVerifier(
        lambda _, steps: [
            [next((v for k, v in scores.items() if k in "".join(s)), 0.0)] * len(s) for s in steps
        ]
    )


def test_best_of_n_takes_what_the_verifier_likes(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(5)
    loves_a = TextVerifier(lambda _, steps: [[min(1.0, t.count("A") / 9) for t in s] for s in steps])
    found = BestOfN(n=6, verifier=loves_a).generate(tiny_engine, prompts, Limits(24))
    for prompt, c in zip(prompts, found, strict=True):
        samples = Sampling(temperature=0.8).generate(tiny_engine, resampled(prompt, 6), Limits(24))
        # the end token is no text, so it costs no vote
        assert c.text.count("A") == max(s.text.count("A") for s in samples)
        assert c.columns["finished"] == c.columns["steps"] == 6


@pytest.mark.parametrize(
    ("pick", "answer"), [("naive", "best"), ("weighted", "often, good"), ("majority", "most")]
)
def test_how_an_answer_is_picked(pick, answer):
    from dovetail.decoding.verified_search import _Finished, _Wave

    wave = object.__new__(_Wave)
    wave.search = BestOfN(pick=pick, extract=lambda text: text)
    texts = [("most", 0.1)] * 3 + [("best", 0.9)] + [("often, good", 0.5)] * 2 + [("", 0.05)] * 4
    wave.finished = [[_Finished(Completion(text), score) for text, score in texts]]
    wave._with_costs = lambda best, question: best
    assert wave._picked(0).completion.text == answer


def test_subtrees_are_independent():
    search = DVTS(n=4, beam_width=2)
    # slots 0 and 1 are one tree, 2 and 3 the other: each keeps its best, the second tree has finished
    assert search.keep([0.9, 0.8, 0.1, 0.7], [False, False, False, True], [0, 1, 2, 3]) == [0]
    assert search.keep([0.8, 0.9, 0.3, 0.1], [False] * 4, [0, 1, 2, 3]) == [1, 2]
    assert search.fork(2) == [0, 0, 1, 1]
    assert VGSearch(n=4, beam_width=2).fork(2) == [0, 1, 0, 1]


def test_dvts_on_the_simulated_problem():
    accuracy, found = simulated.run(0.9, 0.3, 1, n=16, runs=60, kind=DVTS)
    assert {c.columns["steps"] for c in found} == {16 * 12}
    assert accuracy > 0.9 > simulated.run(0.9, 0.3, 1, n=1, runs=60, kind=BestOfN)[0]


def test_operations_are_counted(tiny_engine, tiny_prompts):
    verifier = TextVerifier(lambda _, s: [[0.5] * len(x) for x in s], 1000, lambda question, steps: 7)
    prompts = tiny_prompts(3)
    network = tiny_engine.network
    weights = sum(p.numel() for name, p in network.named_parameters() if p.dim() > 1 and "embed" not in name)
    assert weights_per_token(tiny_engine) == weights
    for prompt, c in zip(
        prompts, BestOfN(n=3, verifier=verifier).generate(tiny_engine, prompts, Limits(12)), strict=True
    ):
        assert c.columns["verifier_tokens"] == 3 * 7
        generator = weights * (len(prompt.ids) + c.cost.tokens_written)
        assert c.columns["flops"] == 2 * generator + 2 * 1000 * 21
        assert c.cost.tokens_read == 3 * len(prompt.ids)


def test_logprobs_only_where_asked_for(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(2)
    assert BestOfN().generate(tiny_engine, prompts, Limits(8))[0].logprobs is None
    asked = BestOfN().generate(tiny_engine, prompts, Limits(8, logprobs=True))[0]
    assert len(asked.logprobs) == len(asked.token_ids)


def test_modifiers_reach_every_token(tiny_engine, tiny_prompts):
    from test_base import Add

    prompts = tiny_prompts(3)
    for search in (BestOfN(n=2), DVTS(n=4, beam_width=2, delimiter="I"), VGSearch(n=4, delimiter="I")):
        plain = search.generate(tiny_engine, prompts, Limits(12))
        added = chain([Add(), search]).generate(tiny_engine, prompts, Limits(12))
        assert [c.token_ids for c in plain] != [c.token_ids for c in added]
        assert all(c.columns["added"] for c in added)


def test_bad_subtrees():
    with pytest.raises(InvalidValue, match="n is 6: must be a multiple of beam_width, 4"):
        DVTS(n=6)
