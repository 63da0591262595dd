"""Where a network lives and in which numbers it computes."""

from __future__ import annotations

import torch

from dovetail.core import InvalidValue, Unsupported

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, checked; the first GPU if None and there is one, else the CPU.

    Raises:
        InvalidValue: no such device on this machine.
        Unsupported: a device without float64, which the random streams are made of.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InvalidValue("device", device, "'cpu', 'cuda' or 'cuda:N'") from error
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            built = "" if torch.version.cuda else f" (torch {torch.__version__} is built without CUDA)"
            raise InvalidValue("device", str(device), f"'cpu': there is no CUDA device here{built}")
        if (chosen.index or 0) >= count:
            raise InvalidValue(
                "device", str(device), f"'cuda:N' with N below {count}, the number of GPUs here"
            )
    elif chosen.type != "cpu":
        raise Unsupported(
            f"device {str(device)!r}: only 'cpu' and 'cuda' are supported, since random streams are drawn in "
            "float64, which not every other device has"
        )
    return chosen


def choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype | str:
    """The dtype asked for; else bfloat16 on a GPU that computes in it, float32 everywhere else.

    Returns:
        A torch dtype, or "auto": the checkpoint's own.

    Raises:
        InvalidValue: not a floating-point type that networks are run in.
    """
    if dtype is None:
        # Emulated bfloat16 (GPUs before Ampere) is slower than float32 and less exact.
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if dtype == "auto":
        return dtype
    if isinstance(dtype, torch.dtype):
        if dtype.is_floating_point and dtype.itemsize >= 2:
            return dtype
    elif dtype in _DTYPES:
        return _DTYPES[dtype]
    raise InvalidValue("dtype", dtype, f"one of {', '.join(_DTYPES)}, auto")
