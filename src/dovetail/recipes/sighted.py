"""A vision-language model small enough to train in minutes: a CNN's features of image patches stand among the
words, as in LLaVA, and a Qwen3 reads both.

The CNN learns to see first (`Sight.learn`), and stays as it is from then on. Images are kept in the network,
in a gallery, and told to it by ids: those beyond the vocabulary are patches. So prompts remain rows of ids,
and engine and trainer need not know that some of what they pass on is seen; no patch can be written. In
texts, ``<image 3>`` is the gallery's image 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, layer_norm
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from dovetail.models.local import LocalModel
from dovetail.models.template import Template
from dovetail.recipes.shapes import COLOURS, KINDS, SIDE, Item, Pixels, seen

CELLS = SIDE // 4  # patches in a row: the CNN halves the image twice
PATCHES = CELLS * CELLS
LABELS = (1 + len(COLOURS), len(KINDS), *[SIDE + 1] * 4)  # how many values each column of `seen` has
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
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.place = nn.Parameter(0.02 * torch.randn(PATCHES, width))
        self.gallery: Tensor
        self.register_buffer("gallery", gallery, persistent=False)

    @property
    def weight(self) -> Tensor:
        return self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        """[...] ids -> [..., d]."""
        patch = ids >= self.words.num_embeddings
        embedded: Tensor = self.words(ids.masked_fill(patch, 0))
        if not bool(patch.any()):
            return embedded
        numbers = ids[patch] - self.words.num_embeddings
        which, index = torch.unique(numbers // PATCHES, return_inverse=True)
        shown = self.patches(self.gallery[which])[index, numbers % PATCHES]
        return embedded.masked_scatter(patch[..., None], shown)

    def patches(self, images: Tensor) -> Tensor:
        """[K, 3, SIDE, SIDE] uint8 -> [K, P, d]."""
        maps = self.features(images.to(self.place.dtype) / 255 - 0.5).flatten(2).transpose(1, 2)
        return layer_norm(maps + self.place, maps.shape[-1:])

    def learn(self, made: Sequence[Item], steps: int, batch: int, rate: float, seed: int) -> list[float]:
        """Teaches patches to tell what they show, by a linear head that is thrown away; then freezes them.

        A model made from scratch has this in place of a pre-trained vision encoder. Returns the losses.
        """
        images = torch.from_numpy(np.stack([pixels for one in made for pixels in one.images]))
        labels = torch.from_numpy(np.stack([seen(shapes, CELLS) for one in made for shapes in one.shown]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = nn.Linear(self.place.shape[1], sum(LABELS))
            parts = [*self.features.parameters(), self.place, *head.parameters()]
            optimiser = torch.optim.AdamW(parts, lr=rate)
            rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1, pct_start=0.1)
            losses: list[Tensor] = []
            for _ in range(steps):
                chosen = torch.randint(len(images), (batch,))
                loss = told(head(self.patches(images[chosen])), labels[chosen])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                rates.step()
                losses.append(loss.detach())
        for part in (*self.features.parameters(), self.place):
            part.requires_grad_(False)
        return [float(loss) for loss in losses]


def told(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of what patches show; empty ones are asked for their colour only.

    Shapes: logits [K, P, sum of LABELS], labels [K, P, 6] as of `shapes.seen`.
    """
    shown = labels[..., 0] > 0
    colour, *rest = torch.split(logits, list(LABELS), dim=-1)
    losses = [cross_entropy(part[shown], labels[shown][:, i]) for i, part in enumerate(rest, start=1)]
    return cross_entropy(colour.flatten(0, 1), labels[..., 0].flatten()) * 3 + torch.stack(losses).sum()


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
