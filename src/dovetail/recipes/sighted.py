"""A vision-language model small enough to train in minutes: a CNN's features of image patches stand among the
words, as in LLaVA, and a Qwen3 reads both.

Images are kept in the network, in a gallery, and told to it by ids: those beyond the vocabulary are patches.
So prompts remain rows of ids, and engine and trainer need not know that some of what they pass on is
seen: gradients reach the CNN, and no patch can be written. In texts, ``<image 3>`` is the gallery's image 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from dovetail.models.local import LocalModel
from dovetail.models.template import Template
from dovetail.recipes.shapes import SIDE, Pixels

CELLS = SIDE // 4  # patches in a row: the CNN halves the image twice
PATCHES = CELLS * CELLS
_WORDS = r"</?[a-z]+>|\),\(| ?[A-Za-z0-9]+|[^A-Za-z0-9]"
_IMAGE = re.compile(r"<image (\d+)>")
_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
_PAD, _END = "<pad>", "<end>"


@dataclass(frozen=True)
class Shape:
    """The size of a model."""

    layers: int = 3
    width: int = 96
    heads: int = 3
    mlp_width: int = 256


class SightedQwen3(Qwen3ForCausalLM):  # type: ignore[no-untyped-call]
    """A Qwen3 whose input embeddings are `Sight`; under a name of its own, since the lean path takes ids."""


class Sight(nn.Module):
    """Embeddings of words, and of patches of the gallery's images.

    Shapes: V words, M images in the gallery, P patches of an image, d width.

    Args:
        words: [V, d].
        gallery: [M, 3, SIDE, SIDE] uint8. Id V + P k + p is patch p of image k, row by row.
    """

    def __init__(self, words: nn.Embedding, gallery: Tensor) -> None:
        super().__init__()
        self.words, width = words, words.embedding_dim
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(64, width, 3, stride=2, padding=1),
        )
        self.place = nn.Parameter(0.02 * torch.randn(PATCHES, width))
        self.gallery: Tensor
        self.register_buffer("gallery", gallery, persistent=False)

    @property
    def weight(self) -> Tensor:
        return self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        """[...] ids -> [..., d]."""
        seen = ids >= self.words.num_embeddings
        embedded: Tensor = self.words(ids.masked_fill(seen, 0))
        if not bool(seen.any()):
            return embedded
        numbers = ids[seen] - self.words.num_embeddings
        which, index = torch.unique(numbers // PATCHES, return_inverse=True)
        images = self.gallery[which].to(self.place.dtype) / 255
        maps = self.features(images).flatten(2).transpose(1, 2) + self.place  # [K, P, d]
        return embedded.masked_scatter(seen[..., None], maps[index, numbers % PATCHES])


class WithImages(Template):
    """A template in whose texts ``<image k>`` stands for the patches of the gallery's image k."""

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for i, part in enumerate(_IMAGE.split(text)):
            if i % 2 == 0:
                ids += super()._encode(part)
            else:
                first = len(self.tokenizer) + PATCHES * int(part)
                ids += range(first, first + PATCHES)
        return ids


def sighted(images: Sequence[Pixels], texts: Iterable[str], shape: Shape, seed: int) -> LocalModel:
    """An untrained model that sees ``images`` and has a word for everything in ``texts``."""
    tokenizer = words_of(texts)
    size = len(tokenizer)
    config = Qwen3Config(
        vocab_size=size,
        hidden_size=shape.width,
        intermediate_size=shape.mlp_width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.width // shape.heads,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SightedQwen3(config)
        network.model.embed_tokens = Sight(network.model.embed_tokens, torch.from_numpy(np.stack(images)))
    network.train(False)
    model = LocalModel(network, tokenizer, name="sighted")
    model.template = WithImages(tokenizer, _TEMPLATE)
    return model


def words_of(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that has every word, number and sign of ``texts`` as one token."""
    found = {word for text in texts for word in re.findall(_WORDS, _IMAGE.sub("", text))}
    vocabulary = {word: i for i, word in enumerate([_PAD, _END, "\n", *sorted(found - {_PAD, _END, "\n"})])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=_PAD))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made, pad_token=_PAD, eos_token=_END, clean_up_tokenization_spaces=False
    )
