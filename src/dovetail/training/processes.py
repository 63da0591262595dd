"""One run in several processes, as ``accelerate launch`` or ``torchrun`` start them.

Processes share the work, not the decisions: each writes its share of a step's groups and reads its share of
the micro-batches; completions and gradients are then exchanged, so that all judge, assign and update alike.
The batch is that of all processes together, and results do not depend on how many there are (but for rounding
and dropout). Every process holds the weights whole, as the engine reads them; FSDP set up to leave them so
shards what the optimizers remember (`sharding`), and what shards the weights themselves is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from dovetail.core import Unsupported

T = TypeVar("T")
_YES = ("1", "true", "yes")


@dataclass(frozen=True)
class Processes:
    """This process among all.

    Attributes:
        rank: from 0; the first one reports, saves and evaluates.
        count: how many there are.
        sharded: each keeps the optimizer states of its own part of the parameters only.
    """

    rank: int = 0
    count: int = 1
    sharded: bool = False

    @classmethod
    def joined(cls) -> Processes:
        """The processes that a launcher's environment variables tell of; this one alone without any.

        Raises:
            Unsupported: the launcher is configured to shard weights.
        """
        sharded = _sharded()
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        if not distributed.is_initialized():
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(distributed.get_rank(), distributed.get_world_size(), sharded)

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> str | None:
        """The device of this process, None where one process may choose freely."""
        if self.count == 1:
            return None
        return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"

    def share(self, things: Sequence[T]) -> Sequence[T]:
        """This process's part of a sequence: contiguous, sizes that differ by one at most."""
        start, end = (len(things) * rank // self.count for rank in (self.rank, self.rank + 1))
        return things[start:end]

    def dealt(self, things: Sequence[T]) -> Sequence[T]:
        """This process's part of things sorted by size: dealt out there and back."""
        turn = [*range(self.count), *reversed(range(self.count))]
        return [thing for i, thing in enumerate(things) if turn[i % len(turn)] == self.rank]

    def joined_lists(self, part: list[T]) -> list[T]:
        """All processes' lists, one after the other."""
        if self.count == 1:
            return part
        parts: list[Any] = [None] * self.count
        distributed.all_gather_object(parts, part)
        return [thing for one in parts for thing in one]

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them."""
        if self.count == 1:
            return make()
        box = [make() if self.first else None]
        distributed.broadcast_object_list(box)
        return box[0]  # type: ignore[return-value]

    def to_first(self, part: T) -> list[T]:
        """What every process has, in the first one; [] in the others."""
        parts: list[Any] | None = [None] * self.count if self.first else None
        distributed.gather_object(part, parts)
        return parts or []

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over processes, in place."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def sum_numbers(self, numbers: dict[str, float], device: torch.device) -> dict[str, float]:
        """Sums by name; a name may be missing in some processes."""
        if self.count == 1:
            return numbers
        names = sorted(set(self.joined_lists(list(numbers))))
        values = torch.tensor([numbers.get(n, 0.0) for n in names], dtype=torch.float64, device=device)
        return dict(zip(names, self.sum(values).tolist(), strict=True))

    def sum_gradients(self, parameters: Sequence[Tensor], owner: int | None = None) -> None:
        """Every process, or ``owner`` alone, gets the sum of all gradients; a message per kind of number."""
        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for same in _alike(parameters):
            flat = torch.cat([p.grad.flatten() for p in same if p.grad is not None])
            if owner is None:
                distributed.all_reduce(flat)
            else:
                distributed.reduce(flat, owner)
            mine = owner is None or owner == self.rank
            for parameter, part in zip(same, flat.split([p.numel() for p in same]), strict=True):
                parameter.grad = part.view_as(parameter) if mine else None

    @torch.no_grad()
    def spread(self, parameters: Sequence[Tensor], owner: int) -> None:
        """Every process gets ``owner``'s values, in a message per kind of number."""
        for same in _alike(parameters):
            flat = torch.cat([p.flatten() for p in same])
            distributed.broadcast(flat, owner)
            if owner != self.rank:
                for parameter, part in zip(same, flat.split([p.numel() for p in same]), strict=True):
                    parameter.copy_(part.view_as(parameter))

    def wait(self) -> None:
        if self.count > 1:
            distributed.barrier()


ALONE = Processes()


def _alike(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Those of each dtype."""
    for dtype in dict.fromkeys(t.dtype for t in tensors):
        yield [t for t in tensors if t.dtype == dtype]


def _sharded() -> bool:
    """Whether the launcher asks for sharding, and leaves the weights whole.

    Raises:
        Unsupported: it asks for sharded weights.
    """
    told = {k: v.lower() for k, v in os.environ.items() if k.startswith(("ACCELERATE", "FSDP"))}
    name, remedy = "DeepSpeed", "launch without it, or with FSDP as in examples/fsdp.yaml"
    if told.get("ACCELERATE_USE_DEEPSPEED") not in _YES:
        if told.get("ACCELERATE_USE_FSDP") not in _YES:
            return False
        second = told.get("FSDP_VERSION") == "2"
        way = told.get("FSDP_RESHARD_AFTER_FORWARD" if second else "FSDP_SHARDING_STRATEGY", "")
        if way in (("false", "0", "no") if second else ("shard_grad_op", "2")):
            return True
        key = "fsdp_reshard_after_forward: false" if second else "fsdp_sharding_strategy: SHARD_GRAD_OP"
        name, remedy = "FSDP", f"set {key} (see examples/fsdp.yaml), and they stay whole"
    raise Unsupported(
        f"{name} is set up to shard the weights, which the engine reads whole to write completions: {remedy}"
    )
