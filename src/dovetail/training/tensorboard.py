"""A run's figures as TensorBoard reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dovetail.core import MissingExtra


class TensorBoard:
    """Writes every step's figures as scalars.

    Args:
        folder: of the event files.
        step: the first step that will be written; later ones of an earlier, killed process are dropped.

    Raises:
        MissingExtra: tensorboard is not installed.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("tensorboard", "training") from error
        self.writer: Any = SummaryWriter(str(folder), purge_step=step)

    def write(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            if name != "step":
                self.writer.add_scalar(name, value, int(figures["step"]))

    def close(self) -> None:
        self.writer.close()
