"""What masking does to a rule or pre-aggregation: measured when its page is made."""

from __future__ import annotations

import numpy as np
import toy

from clients import attacks
from flwr_robust import rules
from flwr_robust.rules.base import Stage

N, D, ROUNDS = 17, 60, 20


def sentence(stage: Stage) -> str:
    """Return how far `Masking` moves a stage's output, in the honest rows' own distance from their mean."""
    moved = float(np.median([_distance(stage, seed) for seed in range(ROUNDS)]))
    far = f"{moved:.2f} times as far" if moved < 1000 else "more than 1,000 times as far"
    what = "its output" if isinstance(stage, rules.Rule) else "the mean of its rows"
    return (
        f"Under [Masking](../attacks/index.md#clients.attacks.Masking), {toy.F} of {N} rows, {what} lies {far} "
        f"from the honest mean as honest rows do (the median of {ROUNDS} rounds of {D} normal values{_behind(stage)})."
    )


def _distance(stage: Stage, seed: int) -> float:
    stage.reset()
    rng = np.random.default_rng(seed)
    honest = 0.5 + rng.standard_normal((N - toy.F, D))
    X = np.concatenate([honest, attacks.Masking()(honest, toy.F)])
    mean = honest.mean(axis=0)
    root, model = 0.5 + rng.standard_normal(D) / 4, np.ones(D)
    output = stage(X, layers=[("fc", (2, D // 2))], root=root, model=model)
    output = output if isinstance(stage, rules.Rule) else output.mean(axis=0)
    spread = np.sqrt(np.square(honest - mean).sum(axis=1).mean())
    return float(np.linalg.norm(output - mean) / spread)


def _behind(stage: Stage) -> str:
    return ", each its first call" if stage.state() else ""
