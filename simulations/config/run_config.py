"""The parameters of a run: one frozen record, read from Flower's run configuration and checked."""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError

from clients.attacks import AlterMin, Attack, Backdoor
from flwr_robust.rules import Rule, parse_args
from simulations.config.backdoors import EdgeSource, edge_source, require_fit
from simulations.config.catalog import (
    AUGMENTATIONS,
    DATA_HOLDERS,
    DATASETS,
    FAULTS,
    MEASURES,
    MODELS,
    NO_ATTACK,
    NORMALISATIONS,
    PARTITIONS,
    measures_in,
    resolve_model,
)
from simulations.config.components import attack_delivery, make_attack, make_rule, poisons_data, seen_share
from simulations.config.schedules import parse_schedule
from simulations.experiments.experiment import experiment_names, load_experiment
from simulations.validation import Checked, one_of, sentences
from simulations.wording import unknown

Value = str | int | float | bool

# Where results go is no part of a run's identity.
NOT_PARAMETERS = frozenset({"out-dir"})
# What pyproject.toml has for every key: Flower accepts no others, and fuses its values with those of --run-config.
NOT_GIVEN = "default"

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]


def _schedule(text: str) -> str:
    parse_schedule(text)
    return text


def _measures(text: str) -> str:
    wrong = sorted(measures_in(text) - set(MEASURES))
    if wrong:
        raise ValueError("\n".join(unknown(repr(word), word, MEASURES) for word in wrong))
    return text


Schedule = Annotated[str, AfterValidator(_schedule)]


class ConfigurationError(ValueError):
    """A run configuration that cannot be run; its text says what is allowed, one sentence a mistake."""


class RunConfig(Checked):
    """All parameters of a run, with the defaults of ``flwr run``.

    In run configurations and experiment files each key is written with dashes (``num-rounds``).
    """

    dataset: Annotated[str, one_of(lambda: DATASETS)] = "digits"
    """A name of `simulations.config.catalog.DATASETS`."""
    data_dir: str = ""
    """Folder of parquet files (see `simulations.data.load`)."""
    partition: Annotated[str, one_of(lambda: PARTITIONS)] = "dirichlet"
    """A name of `simulations.config.catalog.PARTITIONS`."""
    alpha: Positive = 1.0
    """Concentration of the Dirichlet partition: less is more heterogeneous."""
    data_holders: Annotated[str, one_of(lambda: DATA_HOLDERS)] = "all"
    """``all``, or ``honest``: the papers' setting in which malicious nodes hold no data of their own."""
    model: Annotated[str, one_of(lambda: ("auto", *MODELS))] = "auto"
    """A name of `simulations.config.catalog.MODELS`; ``auto`` is the data set's usual one."""
    num_nodes: Count = 0
    """Nodes that take part, those with the first partition ids; 0: all that are connected."""
    fraction_train: Share = 1.0
    """Share of them that is selected to train in each round, drawn anew (client sampling)."""
    num_malicious: Count = 3
    """The nodes with the last partition ids are malicious; the defence tolerates as many."""
    attack: str = "foe"
    """An attack, ``none``, or ``faults``."""
    attack_args: str = ""
    """Its arguments, as ``key=value`` words; of attacks on data also ``delivery=NAME``."""
    defense: str = "arc+nnm+trimmed-mean"
    """A rule or chain."""
    defense_args: str = ""
    """Its arguments; ``f=2`` takes the place of `tolerated`."""
    num_rounds: AtLeastOne = 60
    local_steps: AtLeastOne = 1
    """Local steps in a round."""
    local_epochs: Count = 0
    """Unless 0, passes over a node's samples instead of steps."""
    batch_size: Count = 25
    """Samples in a step; 0: all that the node has."""
    learning_rate: Positive = 1.0
    lr_schedule: Schedule = "constant"
    """Of the nodes' learning rate (see `simulations.config.schedules`)."""
    momentum: Momentum = 0.9
    """Of the nodes' steps, as the next two (see `simulations.node.training.HeavyBall`)."""
    reset_momentum: bool = False
    """Whether a node starts each round without momentum (LASA) instead of keeping it (NNM, ARC)."""
    weight_decay: NotNegative = 1e-4
    gradient_clip: NotNegative = 2.0
    """Clip threshold of gradients; 0 is no clipping."""
    server_learning_rate: Positive = 1.0
    """See `flwr_robust.strategies.options.Options`, as for the momentum."""
    server_lr_schedule: Schedule = "constant"
    """Of the server's rate, over rounds."""
    server_momentum: Momentum = 0.0
    init_scale: Positive = 1.0
    """The initial parameters are multiplied by it (ARC's mu)."""
    normalisation: Annotated[str, one_of(lambda: NORMALISATIONS)] = "auto"
    """How images are normalised (see `simulations.data.inputs`)."""
    augment: Annotated[str, one_of(lambda: AUGMENTATIONS)] = "auto"
    """Whether training images are mirrored and shifted."""
    measure: Annotated[str, AfterValidator(_measures)] = ""
    """Words of `simulations.config.catalog.MEASURES`, joined by ``+``: what else is measured in the run."""
    seed: Count = 1
    """Of partitions, initial parameters and batches."""
    evaluate_every: AtLeastOne = 1
    """Rounds from one evaluation to the next; the last round is always evaluated."""
    experiment: Annotated[str, one_of(lambda: ("", *experiment_names()))] = ""
    """The name of an experiment file, whose parameters replace the defaults."""
    out_dir: str = "results"
    """Folder of the results. A relative one is below the ServerApp's working directory."""

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, Any]) -> Self:
        """Read and check a run configuration.

        With ``experiment``, the experiment's parameters replace the defaults, and what is given beside it replaces
        both. A key that is missing or has the value ``default`` is not given.

        Raises
        ------
        ConfigurationError
            With one sentence for each mistake.
        """
        given = {key: value for key, value in run_config.items() if value != NOT_GIVEN}
        values, problems = cls.valid_part(given)
        name = values.get("experiment", "")
        if name:
            base, more = cls.valid_part(load_experiment(name).parameters)
            values, problems = base | values, problems + [f"experiment {name}: {problem}" for problem in more]
        config = cls.model_validate(values)
        problems += config._contradictions()
        if problems:
            raise ConfigurationError("\n".join(problems))
        return config

    @classmethod
    def valid_part(cls, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the keys and values that are allowed, and a sentence for each of the others."""
        try:
            cls.model_validate(given)
        except ValidationError as error:
            wrong = {details["loc"][0] for details in error.errors()}
            return {key: value for key, value in given.items() if key not in wrong}, sentences(error, cls)
        return dict(given), []

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read the parameters that a server sent to its nodes; the server has checked them."""
        return cls.model_construct(**{name: record[key] for name, key in _keys().items() if key in record})

    def to_run_config(self) -> dict[str, Value]:
        """Return every parameter under its run-config key."""
        return {key: getattr(self, name) for name, key in _keys().items()}

    def replace(self, **changes: Any) -> Self:
        """Return the same parameters with some changes."""
        return type(self).model_validate(dict(self) | changes)

    def participants(self, connected: int) -> int:
        """Return how many of the connected nodes take part."""
        return self.num_nodes or connected

    def selected(self, num_nodes: int) -> int:
        """Return how many of the nodes that take part are selected to train in a round."""
        # 0.29 * 100 is 28.999999999999996: a fraction that names a whole number of nodes means it.
        return max(1, math.floor(self.fraction_train * num_nodes + 1e-9))

    def tolerated(self, num_nodes: int | None = None) -> int:
        """Return the f of the defence: the malicious nodes that are to be expected among those selected in a round.

        All of them where all nodes are selected. Where a share is drawn, their number varies from round to round; the
        defence is given its mean, rounded up, as in LASA (section 5: the attack ratio is a share of those selected).
        Without a number of nodes, all malicious ones.
        """
        if num_nodes is None or self.fraction_train == 1:
            return self.num_malicious
        return math.ceil(self.num_malicious * self.selected(num_nodes) / num_nodes - 1e-9)

    def build_attack(self, seed: int | None = None) -> Attack | None:
        """Build the attack, with the run's seed or the one given; None if nobody attacks, or by fault mods alone.

        Edge inputs are data (see `simulations.data.edges`): zeros stand for them.

        Raises
        ------
        ValueError
            If the attack or one of its arguments is unknown.
        """
        attack = self._any_attack(seed)
        return attack if self.num_malicious else None

    def build_backdoor(self, seed: int | None = None, edge: Any = None) -> Backdoor | None:
        """Build the attack where it is a backdoor, also without malicious nodes, to measure what a clean model says."""
        attack = self._any_attack(seed, edge)
        return attack if isinstance(attack, Backdoor) else None

    def build_delivery(self) -> Attack | None:
        """Build what malicious nodes make of updates that they trained on poisoned data; None: they are sent as is.

        Raises
        ------
        ValueError
            If it is none, or the attack poisons no data.
        """
        delivery = attack_delivery(self.attack_args, self._any_attack(), self.seed)
        return delivery if self.num_malicious else None

    def edge_source(self) -> EdgeSource:
        """Return where the edge inputs of an EdgeCase come from."""
        return edge_source(parse_args(self.attack_args), DATASETS[self.dataset])

    def _any_attack(self, seed: int | None = None, edge: Any = None) -> Attack | None:
        if self.attack in (NO_ATTACK, FAULTS):
            return None
        return make_attack(
            self.attack,
            self.attack_args,
            f=self.num_malicious,
            spec=DATASETS[self.dataset],
            normalisation=self.normalisation,
            seed=self.seed if seed is None else seed,
            edge=edge,
        )

    def seen_share(self) -> float | None:
        """Return the share of honest updates that the adversary sees; None: all.

        Raises
        ------
        ValueError
            If it is no share, or the attack sees no updates.
        """
        alone = self.build_delivery() is None
        return seen_share(self.attack, self.attack_args, alone and poisons_data(self.build_attack()))

    def build_rule(self, num_nodes: int | None = None) -> Rule:
        """Build the rule or chain that defends a run with this number of nodes.

        Raises
        ------
        ValueError
            If a rule or one of its arguments is unknown.
        """
        return make_rule(self.defense, self.defense_args, f=self.tolerated(num_nodes), seed=self.seed)

    def least_nodes(self) -> int:
        """Return the least number of nodes for which attack and defence make sense."""

        def enough(num_nodes: int) -> bool:
            return self.build_rule(num_nodes).min_rows <= self.selected(num_nodes)

        least = most = 2 * self.num_malicious + 1
        while not enough(most):
            most *= 2
        # The more nodes there are, the more are selected, and the fewer of these are malicious.
        return bisect_left(range(most), True, lo=least, key=enough)

    def fingerprint(self, **more: Value) -> str:
        """Return the run's identity (see `fingerprint`)."""
        return fingerprint(self.to_run_config(), **more)

    def run_name(self, **more: Value) -> str:
        """Return a file name for the results: what a reader looks for, then the fingerprint."""
        attack = self.attack if self.num_malicious else NO_ATTACK
        return f"{self.dataset}_{attack}_{self.defense}_seed{self.seed}_{self.fingerprint(**more)}"

    def _contradictions(self) -> list[str]:
        """Say which parameters do not go together; the number of nodes where all else does."""
        return list(self._unfitting()) or list(self._too_few_nodes())

    def _unfitting(self) -> Iterator[str]:
        try:
            resolve_model(self.model, self.dataset)
        except ValueError as error:
            yield str(error)
        if self.partition == "natural" and not DATASETS[self.dataset].owner_column:
            owned = ", ".join(name for name, its in DATASETS.items() if its.owner_column)
            yield (
                f"partition='natural' needs samples that have owners; those of {self.dataset} have none: use {owned}."
            )
        try:
            self.seen_share()
            if (backdoor := self.build_backdoor()) is not None:
                require_fit(backdoor, DATASETS[self.dataset])
            if isinstance(self._any_attack(), AlterMin):
                raise ValueError("alter-min delivers what a data attack poisons: attack-args='delivery=alter-min'.")
        except ValueError as error:
            yield f"attack={self.attack!r} attack-args={self.attack_args!r}: {error}"
        try:
            self.build_rule()
        except ValueError as error:
            yield f"defense={self.defense!r} defense-args={self.defense_args!r}: {error}"

    def _too_few_nodes(self) -> Iterator[str]:
        needed = self.least_nodes()
        if 0 < self.num_nodes < needed:
            yield (
                f"num-nodes={self.num_nodes} is too few for num-malicious={self.num_malicious}, "
                f"defense={self.defense!r} and fraction-train={self.fraction_train:g}: give at least {needed}, or 0 "
                "for all that are connected."
            )


@lru_cache(maxsize=1)
def _keys() -> dict[str, str]:
    """Return the run-config key of each parameter."""
    return {name: str(field.alias) for name, field in RunConfig.model_fields.items()}


@lru_cache(maxsize=1)
def defaults() -> Mapping[str, Value]:
    """Return the default of every run-config key."""
    return RunConfig().to_run_config()


def fingerprint(parameters: Mapping[str, Value], **more: Value) -> str:
    """Return the identity of a run: a short hash of the parameters that were chosen.

    A parameter that has its default counts as not chosen, so that a run keeps its identity when a version with
    further parameters reads what an earlier one recorded.
    """
    standard = defaults()
    chosen = {
        key: value for key, value in parameters.items() if key not in NOT_PARAMETERS and value != standard.get(key)
    }
    return hashlib.sha256(json.dumps(chosen | more, sort_keys=True).encode()).hexdigest()[:10]
