"""What is wrong with the parameters of a run: one sentence a mistake, which says what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from simulations.config.catalog import (
    AUGMENTATIONS,
    DATA_HOLDERS,
    DATASETS,
    MEASURES,
    MODELS,
    NORMALISATIONS,
    PARTITIONS,
    measures_in,
    resolve_model,
)
from simulations.config.components import attack_problem, defense_problem, least_nodes
from simulations.config.schedules import parse_schedule
from simulations.experiments.experiment import experiment_names
from simulations.wording import suggestion

if TYPE_CHECKING:
    from simulations.config.run_config import RunConfig

NAMES: dict[str, Iterable[str]] = {
    "dataset": DATASETS,
    "partition": PARTITIONS,
    "data_holders": DATA_HOLDERS,
    "model": ("auto", *MODELS),
    "normalisation": NORMALISATIONS,
    "augment": AUGMENTATIONS,
}

# (least value, whether it is allowed itself)
LEAST: dict[str, tuple[float, bool]] = {
    "alpha": (0, False),
    "num_nodes": (0, True),
    "fraction_train": (0, False),
    "num_malicious": (0, True),
    "num_rounds": (1, True),
    "local_steps": (1, True),
    "local_epochs": (0, True),
    "batch_size": (0, True),
    "learning_rate": (0, False),
    "momentum": (0, True),
    "weight_decay": (0, True),
    "gradient_clip": (0, True),
    "server_learning_rate": (0, False),
    "server_momentum": (0, True),
    "init_scale": (0, False),
    "seed": (0, True),
    "evaluate_every": (1, True),
}

# (largest value, whether it is allowed itself)
MOST: dict[str, tuple[float, bool]] = {
    "fraction_train": (1, True),
    "momentum": (1, False),
    "server_momentum": (1, False),
}


def problems_of(config: RunConfig) -> list[str]:
    """Return a sentence for each mistake in a configuration."""
    # How many nodes are needed can be told of an attack and a defence that are known.
    return list(_mistakes(config)) or list(_too_few_nodes(config))


def _mistakes(config: RunConfig) -> Iterable[str]:
    for name, allowed in NAMES.items():
        value = getattr(config, name)
        if value not in allowed:
            yield _unknown(name, value, allowed)
    if config.experiment and config.experiment not in experiment_names():
        yield _unknown("experiment", config.experiment, experiment_names())
    for word in sorted(measures_in(config.measure) - set(MEASURES)):
        yield _unknown("measure", word, MEASURES)
    yield from _out_of_range(config)
    for key, schedule in (("lr-schedule", config.lr_schedule), ("server-lr-schedule", config.server_lr_schedule)):
        try:
            parse_schedule(schedule)
        except ValueError as error:
            yield f"{key}: {error}"
    if config.dataset in DATASETS and config.model in ("auto", *MODELS):
        yield from _unfitting_data(config)
    yield from filter(None, (attack_problem(config), defense_problem(config)))


def _out_of_range(config: RunConfig) -> Iterable[str]:
    for name, (least, inclusive) in LEAST.items():
        value = getattr(config, name)
        if not math.isfinite(value) or value < least or (value == least and not inclusive):
            yield f"{_key(name)}={value} is out of range: give {'at least' if inclusive else 'more than'} {least}."
    for name, (most, inclusive) in MOST.items():
        value = getattr(config, name)
        if value > most or (value == most and not inclusive):
            yield f"{_key(name)}={value} is out of range: give {'at most' if inclusive else 'less than'} {most}."


def _unfitting_data(config: RunConfig) -> Iterable[str]:
    try:
        resolve_model(config.model, config.dataset)
    except ValueError as error:
        yield str(error)
    spec = DATASETS[config.dataset]
    if config.partition == "natural" and not spec.owner_column:
        owned = ", ".join(name for name, its in DATASETS.items() if its.owner_column)
        yield (
            f"partition='natural' needs samples that belong to somebody; those of {config.dataset} do not: use {owned}."
        )


def _too_few_nodes(config: RunConfig) -> Iterable[str]:
    needed = least_nodes(config)
    if 0 < config.num_nodes < needed:
        yield (
            f"num-nodes={config.num_nodes} is too few for num-malicious={config.num_malicious}, "
            f"defense={config.defense!r} and fraction-train={config.fraction_train:g}: give at least {needed}, or 0 "
            "for all that are connected."
        )


def _key(name: str) -> str:
    return name.replace("_", "-")


def _unknown(name: str, value: str, allowed: Iterable[str]) -> str:
    return f"{_key(name)}={value!r} is unknown{suggestion(value, allowed)}; allowed: {', '.join(allowed)}."
