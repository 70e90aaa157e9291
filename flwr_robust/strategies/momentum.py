"""Momentum at the server."""

from __future__ import annotations

import numpy as np

from flwr_robust.engine.device import FloatArray
from flwr_robust.rules.checks import number, refuse_non_finite
from flwr_robust.rules.run import State

# What the momentum is called in a saved state.
NAME = "server_momentum"


class ServerMomentum:
    """Heavy-ball momentum of the aggregates: ``m <- beta m + aggregate``, from zero (MixTailor, Table 1).

    Parameters
    ----------
    beta : float
        Weight of the earlier momentum, in [0, 1); 0 keeps nothing.

    Raises
    ------
    ValueError
        If beta is out of range; the text names the owner.
    """

    def __init__(self, beta: float, owner: str) -> None:
        self.beta = number(beta, "server_momentum", owner, at_least=0, below=1)
        self.value: FloatArray | None = None

    def step(self, aggregate: FloatArray) -> None:
        """Add the aggregate to the momentum, and overwrite it by the new momentum."""
        if not self.beta:
            return
        if self.value is None or self.value.shape != aggregate.shape:
            self.value = np.zeros_like(aggregate)
        # A new array: what `state` returned earlier stays as it was.
        self.value = self.value * aggregate.dtype.type(self.beta) + aggregate
        aggregate[:] = self.value

    def reset(self) -> None:
        """Start again from zero."""
        self.value = None

    def state(self) -> State:
        """Return the momentum by name; nothing before the first step."""
        return {} if self.value is None else {NAME: self.value}

    def load_state(self, state: State) -> State:
        """Take the momentum out of a saved state, and return what is left.

        Raises
        ------
        ValueError
            If the state holds one, but none is kept, or holds NaN or infinity.
        """
        left = dict(state)
        saved = left.pop(NAME, None)
        if saved is not None and not self.beta:
            raise ValueError("the state holds a server's momentum, but this strategy keeps none: give server_momentum.")
        refuse_non_finite({} if saved is None else {NAME: saved}, "server_momentum")
        self.value = saved
        return left
