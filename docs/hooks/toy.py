"""The toy cloud of the pictures: honest rows, outliers, and one component of each kind to run on them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from clients import attacks
from flwr_robust import rules
from flwr_robust.rules.side_inputs import SideInputs

Component = TypeVar("Component")

F = 3
CENTRE, SPREAD = np.array([1.4, 0.9]), np.array([[0.75, 0.0], [0.35, 0.6]])
# Three nodes that pull the mean backwards, each on its own; honest nodes differ more one way than the other.
OUTLIERS = np.array([[-3.2, -0.6], [-1.7, -2.7], [-3.4, -2.0]])
_draws = np.random.default_rng(4).standard_normal((12 + F, 2))
HONEST = CENTRE + _draws[:12] @ SPREAD
OWN = CENTRE + _draws[12:] @ SPREAD  # what the attackers' own honest training gave
CLOUD = np.concatenate([HONEST, OUTLIERS])
# One layer, as (classes, features), for the rules that work by layers.
LAYERS = (("output.weight", (2, 1)),)

# What rules are told beside the rows: a server's own honest update, and the model that was sent.
SIDE = SideInputs(root=CENTRE, model=np.array([2.0, 1.0]))

# What components are made with where they take it: parameters without a default need a value here.
ARGUMENTS: dict[str, Any] = {"f": F, "seed": 1, "max_norm": 2.0, "base": attacks.Tailored()}
DEFENCE = rules.TrimmedMean(f=F)


def make(component: Callable[..., Component]) -> Component:
    """Make a rule or attack for the toy cloud.

    Raises
    ------
    ValueError
        If it has a parameter without a default that `ARGUMENTS` does not name.
    """
    given = {}
    for name, parameter in inspect.signature(component).parameters.items():
        needed = parameter.default is parameter.empty
        if needed and name not in ARGUMENTS:
            raise ValueError(f"{component!r} needs {name!r} for its picture; add a value to ARGUMENTS in {__file__}.")
        if needed or name in ("f", "seed"):
            given[name] = ARGUMENTS[name]
    return component(**given)
