"""Pico's tokenizer: a byte-level BPE of at most 1,024 entries with Qwen3's chat template.

Any text tokenises and round-trips, since all 256 bytes are entries. Every digit is its own token; every
syllable of atlas's names is one token, so each name is exactly two. The other merges are learned from pico's
corpus by plain byte-pair encoding (Sennrich et al., 2016) over word counts.
"""

from __future__ import annotations

from collections import Counter
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dovetail.tasks.atlas import FIRST_SYLLABLES, LAST_SYLLABLES, every_name
from dovetail.training.pico.corpus import INSTRUCTIONS, SYSTEM_PROMPTS, documents

VOCABULARY_SIZE = 1024
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
#: ordinary text, though single tokens: decoding with skip_special_tokens keeps them, as in Qwen3
MARKER_TOKENS = ("<think>", "</think>")

# contractions, words with their leading space, single digits, single punctuation marks, line ends, spaces
_PATTERN = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]|\s*[\r\n]+|\s+(?!\S)|\s+"


def chat_template() -> str:
    """Qwen3's: tools, earlier thinking stripped, ``enable_thinking=False`` writes an empty thought."""
    return files(__package__).joinpath("chat_template.jinja").read_text(encoding="utf-8").rstrip("\n")


def build(seed: int = 0, sample: int = 8000) -> PreTrainedTokenizerFast:
    """The tokenizer, learned from `sample` documents of the corpus with this seed."""
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _syllable_merges()
    room = VOCABULARY_SIZE - len(SPECIAL_TOKENS) - len(MARKER_TOKENS) - len(alphabet) - len(merges)
    merges += _learn_merges(_word_counts(splitter, seed, sample), merges, room)
    entries = [*SPECIAL_TOKENS, *alphabet, *("".join(pair) for pair in merges), *MARKER_TOKENS]
    tokenizer = Tokenizer(models.BPE({entry: i for i, entry in enumerate(entries)}, merges))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in MARKER_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=chat_template(),
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        padding_side="left",
    )


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, the chat template inside the latter."""
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def _syllable_merges() -> list[tuple[str, str]]:
    """Merges that make every syllable, with and without a leading space, one entry."""
    merges: dict[tuple[str, str], None] = {}
    for syllable in (*FIRST_SYLLABLES, *LAST_SYLLABLES):
        for end in range(1, len(syllable)):
            merges[syllable[:end], syllable[end]] = None
    for syllable in FIRST_SYLLABLES:
        merges["Ġ", syllable] = None  # Ġ is how byte-level BPE writes a space
    return list(merges)


def _word_counts(splitter: pre_tokenizers.PreTokenizer, seed: int, sample: int) -> Counter[str]:
    """Pieces of the corpus by count, atlas's names left out: they have their own merges."""
    counts: Counter[str] = Counter()
    for document in documents(seed, sample):
        for text in (*(m["content"] for m in document.messages), document.completion):
            counts.update(piece for piece, _ in splitter.pre_tokenize_str(text))
    for text in ("system", "user", "assistant", *SYSTEM_PROMPTS, *INSTRUCTIONS):
        counts.update({piece: 100 for piece, _ in splitter.pre_tokenize_str(text)})
    for marker in MARKER_TOKENS:
        counts.pop(marker, None)
    for name in every_name():
        counts.pop(name, None)
        counts.pop("Ġ" + name, None)
    return counts


def _learn_merges(counts: Counter[str], given: list[tuple[str, str]], room: int) -> list[tuple[str, str]]:
    """Up to `room` further merges, the most frequent adjacent pair first; ties go to the smaller pair."""
    rank = {pair: i for i, pair in enumerate(given)}
    words = [(_apply(list(word), rank), count) for word, count in sorted(counts.items())]
    entries = {"".join(pair) for pair in given}
    learned: list[tuple[str, str]] = []
    while len(learned) < room:
        pairs: Counter[tuple[str, str]] = Counter()
        for pieces, count in words:
            for pair in pairwise(pieces):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if best[0] + best[1] not in entries:
            learned.append(best)
            entries.add(best[0] + best[1])
        words = [(_apply(pieces, {best: 0}), count) for pieces, count in words]
    return learned


def _apply(pieces: list[str], rank: dict[tuple[str, str], int]) -> list[str]:
    """Merges adjacent pieces, lowest rank first, as a BPE model does."""
    while True:
        pair = min(pairwise(pieces), key=lambda p: rank.get(p, len(rank)), default=None)
        if pair is None or pair not in rank:
            return pieces
        merged, i = [], 0
        while i < len(pieces):
            if tuple(pieces[i : i + 2]) == pair:
                merged.append(pieces[i] + pieces[i + 1])
                i += 2
            else:
                merged.append(pieces[i])
                i += 1
        pieces = merged
