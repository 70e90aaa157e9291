"""Which device, and which kind of updates: the one place that imports torch's side, where torch is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from flwr_robust.engine.cpu import CPU
from flwr_robust.engine.device import Device, FloatArray
from flwr_robust.engine.updates import Layers, Updates


def device_for(name: Any, owner: str) -> Device:
    """Return the device of this name (or torch.device); None is the CPU by compiled loops.

    Raises
    ------
    ValueError
        If there is no such device, or torch is missing.
    """
    if name is None:
        return CPU
    given = f"{owner} was given device = {str(name)!r}"
    try:
        from flwr_robust.engine.torch_device import find_device
    except ImportError as error:
        allowed = "install torch, or leave device out to use compiled loops."
        raise ValueError(f"{given}, but torch cannot be imported ({error}); {allowed}") from error
    return find_device(str(name), given)


def is_tensor(X: Any) -> bool:
    """Whether X is a torch tensor, found out without importing torch."""
    return type(X).__module__.partition(".")[0] == "torch" and hasattr(X, "detach")


def updates_for(X: Any, layers: Layers | None = None) -> Updates:
    """Return a view of an (n, d) array or tensor as `Updates`.

    Raises
    ------
    ValueError
        If X is not 2-D or not of floats.
    """
    tensor = is_tensor(X)
    matrix: Any = X.detach() if tensor else np.asarray(X)
    floating = matrix.is_floating_point() if tensor else matrix.dtype.kind == "f" and matrix.dtype.itemsize <= 8
    if matrix.ndim != 2 or not floating:
        raise ValueError(
            f"rules take an (n, d) array or tensor of floats up to 64 bits, one update a row; "
            f"got shape {tuple(matrix.shape)} of {matrix.dtype}."
        )
    if not tensor:
        return Updates.of_rows(matrix, layers)
    from flwr_robust.engine.torch_device import updates_of_tensor

    return updates_of_tensor(matrix, layers)


def like(result: FloatArray, X: Any) -> Any:
    """Return a result as what X is: an array or a tensor of its dtype, on its device."""
    if not is_tensor(X):
        return result.astype(np.asarray(X).dtype, copy=False)
    import torch

    return torch.from_numpy(result).to(dtype=X.dtype, device=X.device)
