"""The parameters of a run: one frozen record, read from Flower's run configuration."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Self

from simulations.config.checks import problems_of
from simulations.experiments.experiment import experiment_names, load_experiment
from simulations.wording import suggestion

Value = str | int | float | bool

# What may not be part of a run's identity: where its results go.
NOT_PARAMETERS = frozenset({"out-dir"})


class ConfigurationError(ValueError):
    """A run configuration that cannot be run; its text says what is allowed, one sentence a mistake."""


@dataclass(frozen=True)
class RunConfig:
    """All parameters of a run, with the defaults of ``flwr run``.

    In run configurations and experiment files each key is written with dashes (``num-rounds``).

    Attributes
    ----------
    dataset, data_dir : str
        A name of `simulations.config.catalog.DATASETS`, and the folder of parquet files (see `simulations.data.load`).
    partition : str
        A name of `simulations.config.catalog.PARTITIONS`.
    alpha : float
        Concentration of the Dirichlet partition: less is more heterogeneous.
    data_holders : str
        ``all``, or ``honest``: the papers' setting in which malicious nodes hold no data of their own.
    model : str
        A name of `simulations.config.catalog.MODELS`; ``auto`` is the data set's usual one.
    num_malicious : int
        The nodes with the last partition ids are malicious; the defence tolerates as many.
    num_nodes : int
        Nodes that take part, those with the first partition ids; 0: all that are connected.
    fraction_train : float
        Share of them that is asked to train in each round, drawn anew (client sampling).
    attack, attack_args : str
        The name of an attack or ``none``, and its arguments as ``key=value`` words.
    defense, defense_args : str
        A chain such as ``arc+nnm+trimmed-mean``, and its arguments. ``f=2`` overrides `components.tolerated`.
    num_rounds, local_steps, local_epochs, batch_size : int
        Rounds, local steps in a round or, unless 0, passes over a node's samples instead, and samples in a
        step (0: all that the node has).
    learning_rate, lr_schedule : float, str
        Initial rate and its schedule (see `simulations.config.schedules`).
    momentum, weight_decay, gradient_clip : float
        Of the nodes' steps (see `simulations.node.training.HeavyBall`); ``gradient-clip=0`` is no clipping.
    reset_momentum : bool
        Whether a node starts each round without momentum (LASA) instead of keeping it (NNM, ARC).
    server_learning_rate, server_momentum : float
        See `flwr_robust.strategies.options.Options`.
    server_lr_schedule : str
        Of the server's rate, over rounds.
    init_scale : float
        The initial parameters are multiplied by it (ARC's mu).
    normalisation, augment : str
        How images are normalised and whether training images are mirrored (see `simulations.data.inputs`).
    measure : str
        Words of `simulations.config.catalog.MEASURES`, joined by ``+``: what else is measured in the run.
    seed : int
        Of partitions, initial parameters and batches.
    evaluate_every : int
        Rounds from one evaluation to the next; the last round is always evaluated.
    experiment : str
        The name of an experiment file, whose parameters replace the defaults.
    out_dir : str
        Folder of the results. A relative one is below the ServerApp's working directory.
    """

    dataset: str = "digits"
    data_dir: str = ""
    partition: str = "dirichlet"
    alpha: float = 1.0
    data_holders: str = "all"
    model: str = "auto"
    num_nodes: int = 0
    fraction_train: float = 1.0
    num_malicious: int = 3
    attack: str = "foe"
    attack_args: str = ""
    defense: str = "arc+nnm+trimmed-mean"
    defense_args: str = ""
    num_rounds: int = 60
    local_steps: int = 1
    local_epochs: int = 0
    batch_size: int = 25
    learning_rate: float = 1.0
    lr_schedule: str = "constant"
    momentum: float = 0.9
    reset_momentum: bool = False
    weight_decay: float = 1e-4
    gradient_clip: float = 2.0
    server_learning_rate: float = 1.0
    server_lr_schedule: str = "constant"
    server_momentum: float = 0.0
    init_scale: float = 1.0
    normalisation: str = "auto"
    augment: str = "auto"
    measure: str = ""
    seed: int = 1
    evaluate_every: int = 1
    experiment: str = ""
    out_dir: str = "results"

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, Any]) -> Self:
        """Read and check a run configuration.

        Keys that are missing take their defaults. With ``experiment``, the experiment's parameters
        replace the defaults; a key whose value differs from its default was set by the user and wins.

        Raises
        ------
        ConfigurationError
            With one sentence for each mistake.
        """
        values, problems = typed_values(run_config, "run-config")
        name = values.get("experiment", "")
        if name:
            # An unknown name is reported below, with the other names.
            known = name in experiment_names()
            overrides, more = (
                typed_values(load_experiment(name).parameters, f"experiment {name}") if known else ({}, [])
            )
            standard = defaults()
            chosen = {key: value for key, value in values.items() if value != standard[key]}
            values, problems = standard | overrides | chosen, problems + more
        config = cls(**{key.replace("-", "_"): value for key, value in values.items()})
        problems += list(problems_of(config))
        if problems:
            raise ConfigurationError("\n".join(problems))
        return config

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read the parameters that a server sent to its nodes; the server has checked them."""
        return cls(**{name: record[key] for name, key in _keys().items() if key in record})

    def to_run_config(self) -> dict[str, Value]:
        """Return every parameter under its run-config key."""
        return {key: getattr(self, name) for name, key in _keys().items()}

    def participants(self, connected: int) -> int:
        """Return how many of the connected nodes take part."""
        return self.num_nodes or connected

    def asked(self, num_nodes: int) -> int:
        """Return how many of the nodes that take part are asked to train in a round."""
        # 0.29 * 100 is 28.999999999999996: a fraction that names a whole number of nodes means it.
        return max(1, math.floor(self.fraction_train * num_nodes + 1e-9))

    def fingerprint(self, **more: Value) -> str:
        """Return a short hash of everything that can change the results."""
        known = {key: value for key, value in self.to_run_config().items() if key not in NOT_PARAMETERS}
        text = json.dumps(known | more, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def run_name(self, **more: Value) -> str:
        """Return a file name for the results: what a reader looks for, then the fingerprint."""
        attack = self.attack if self.num_malicious else "none"
        return f"{self.dataset}_{attack}_{self.defense}_seed{self.seed}_{self.fingerprint(**more)}"


@lru_cache(maxsize=1)
def _keys() -> dict[str, str]:
    """Return the run-config key of each parameter."""
    return {field.name: field.name.replace("_", "-") for field in fields(RunConfig)}


def defaults() -> dict[str, Value]:
    """Return the default of every run-config key, for ``[tool.flwr.app.config]``."""
    return RunConfig().to_run_config()


def typed_values(given: Mapping[str, Any], origin: str) -> tuple[dict[str, Any], list[str]]:
    """Return the values of known keys and right types, and a sentence for each of the others."""
    standard = defaults()
    values: dict[str, Any] = {}
    problems = []
    for key, value in given.items():
        if key not in standard:
            hint = suggestion(key, standard)
            problems.append(f"{origin} has the unknown key {key!r}{hint}; allowed: {', '.join(standard)}.")
            continue
        kind = type(standard[key])
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is kind:
            values[key] = value
        else:
            problems.append(f"{origin} {key}={value!r} is of type {type(value).__name__}; give {_KINDS[kind]}.")
    return values, problems


_KINDS = {
    str: 'a text in quotes (key="text")',
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
