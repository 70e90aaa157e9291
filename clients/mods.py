"""Flower ClientApp mods: malicious nodes on their own, as real clients.

>>> from flwr.clientapp import ClientApp
>>> from clients import mods
>>> app = ClientApp(mods=[mods.SignFlip()])
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack
from zlib import crc32

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Error, Message
from flwr.clientapp.typing import ClientAppCallable
from numpy.typing import NDArray

from . import attacks
from .attacks.faults import Malformed
from .data import DataAttack, poison
from .wire import SentModel, UnusableReplyError, Vector, is_running_statistic, is_train, replace_arrays

Parameters = list[NDArray[Any]]
FitResult = tuple[Parameters, int, dict[str, Any]]

UNKNOWN_ERROR = 0  # Flower's code for an error of no known kind
# The record of a node's state that holds the global model of its last round, for attacks that follow it.
LAST_MODEL = "clients.last-model"
# Names under which servers send the number of the round; Flower's strategies use the first.
ROUND_KEYS = ("server-round", "server_round", "current_round", "round")

_log = logging.getLogger(__name__)


class UpdateOptions(TypedDict, total=False):
    """Keyword arguments of `UpdateMod`."""

    statistics: bool
    names: Sequence[str] | None


class ClientMod(ABC):
    """A mod that changes how one client trains, for both of Flower's client interfaces."""

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Handle a message as a Flower mod; only train messages are touched."""
        if not is_train(message):
            return call_next(message, context)
        configs = message.content.config_records.values()
        self.begin(node_number(context), round_of(configs, str(message.metadata.message_id).encode()))
        return self.train(message, context, call_next)

    def begin(self, node: int, server_round: int) -> None:  # noqa: B027 - most mods draw nothing
        """Prepare for this node's train message of this round; the process may know of no earlier one."""

    @abstractmethod
    def train(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Return the malicious reply to a train message."""

    @abstractmethod
    def fit(self, parameters: Parameters, fit: Callable[[], FitResult]) -> FitResult:
        """Return the malicious result of a ``NumPyClient.fit`` that was sent these parameters."""


class UpdateMod(ClientMod):
    """A mod that trains honestly and then reports another update.

    Parameters
    ----------
    statistics : bool
        Whether running statistics of batch normalisation (arrays named ``running_mean`` and ``running_var``) are
        part of the update; otherwise they are reported as they are.
    names : sequence of str, optional
        Names of the arrays of a `NumPyClient`, which sends none; needed there for ``statistics=False``.
    """

    statistics = True
    names: Sequence[str] | None = None
    follows_model = False
    """Whether `report` is given the last move of the global model."""

    def __init__(self, *, statistics: bool = True, names: Sequence[str] | None = None) -> None:
        self.statistics = statistics
        self.names = names
        self._node = 0
        self._last_models: dict[int, Vector] = {}

    def begin(self, node: int, server_round: int) -> None:
        """Note whose round it is."""
        self._node = node

    @abstractmethod
    def transform(self, update: Vector) -> Vector:
        """Return the (d,) update to report, given the node's own; d counts float values only."""

    def report(self, update: Vector, previous: Vector | None) -> Vector:
        """Return the update to report, given also the global model's move since this node's last round, if known."""
        return self.transform(update)

    def train(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Train honestly, and report another update; an error reply, or one that does not fit, stays as it is."""
        # Before the call: the app may change the message's content in place.
        sent = SentModel(message.content, self.statistics)
        previous = _move_since_last(sent.model, context) if self.follows_model else None
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        try:
            update = sent.update_of(reply.content)
            reply.content = sent.rewrite(reply.content, self.report(update, previous))
        except UnusableReplyError as error:
            _log.warning("%s leaves the reply as it is: %s.", type(self).__name__, error)
        return reply

    def fit(self, parameters: Parameters, fit: Callable[[], FitResult]) -> FitResult:
        """Train honestly, and report another update.

        Raises
        ------
        ValueError
            If fit returns another number of arrays, or other shapes, than it was given, or names are missing.
        """
        # Clients may train the given arrays in place.
        sent = [np.array(array) for array in parameters]
        trained, num_examples, metrics = fit()
        if [array.shape for array in sent] != [np.shape(array) for array in trained]:
            raise ValueError(
                f"{type(self).__name__} was given {len(trained)} arrays by fit for the {len(sent)} that were "
                "sent, or with other shapes; return the arrays in the order in which fit gets them."
            )
        return self._report(sent, trained), num_examples, metrics

    def _report(self, sent: Parameters, trained: Parameters) -> Parameters:
        """Return the trained arrays with their float values moved to sent + transform(trained - sent)."""
        places = [place for place in self._attacked(len(sent)) if np.issubdtype(trained[place].dtype, np.floating)]
        changes = [(trained[place] - sent[place]).ravel() for place in places]
        previous = self._move_since_last(sent, places) if self.follows_model else None
        update = self.report(np.concatenate([np.empty(0, np.float32), *changes]), previous)
        pieces = np.split(update, np.cumsum([change.size for change in changes])[:-1])
        reported = list(trained)
        for place, piece in zip(places, pieces, strict=False):
            values = sent[place] + piece.reshape(sent[place].shape)
            reported[place] = np.asarray(values, dtype=trained[place].dtype)
        return reported

    def _move_since_last(self, sent: Parameters, places: Sequence[int]) -> Vector | None:
        """Return how far the global model has moved since the node's last round; a NumPyClient keeps no state."""
        model = np.concatenate([np.empty(0, np.float32), *(sent[place].ravel() for place in places)])
        last = self._last_models.get(self._node)
        self._last_models[self._node] = model
        return None if last is None or last.shape != model.shape else model - last

    def _attacked(self, count: int) -> list[int]:
        """Return the places of the arrays that are part of the update."""
        if self.statistics:
            return list(range(count))
        if self.names is None or len(self.names) != count:
            raise ValueError(
                f"{type(self).__name__}(statistics=False) was given names = {self.names!r}; a NumPyClient's {count} "
                "arrays have no names of their own: give one for each, in their order."
            )
        return [place for place, name in enumerate(self.names) if not is_running_statistic(name)]


class AttackMod(UpdateMod):
    """Report what an attack makes of the node's own update.

    Parameters
    ----------
    attack : clients.attacks.Attack
        One that makes updates. The node's own update is all that it sees, and takes the place of the honest mean;
        attacks that follow the global model are told its move since the node's last round.
    **options
        `statistics` and `names`: see `UpdateMod`.

    Raises
    ------
    ValueError
        If the attack makes no updates, needs the server's rule, or would take a parameter from other nodes' updates.
    """

    def __init__(self, attack: attacks.Attack, **options: Unpack[UpdateOptions]) -> None:
        super().__init__(**options)
        if not isinstance(attack, attacks.Attack) or not attack.makes_updates or attack.knows == "rule":
            raise ValueError(
                f"{type(self).__name__} was given attack = {attack!r}; give one of clients.attacks that makes updates "
                "without the server's rule, such as Scaled(10.0)."
            )
        if missing := attack.missing_alone():
            raise ValueError(
                f"{type(self).__name__} was given {attack!r}, whose {missing} depends on the other nodes of a round; "
                f"give a number for {missing}."
            )
        self.attack = attack
        self.follows_model = attack.follows_model

    def begin(self, node: int, server_round: int) -> None:
        """Draw anew in each round, and differently from other nodes."""
        super().begin(node, server_round)
        self.attack.draw_for(node, server_round)

    def transform(self, update: Vector) -> Vector:
        return self.report(update, None)

    def report(self, update: Vector, previous: Vector | None) -> Vector:
        row = update[None]
        reported: Vector = self.attack(row, 1, own=row, previous=previous)[0]
        return reported


class SignFlip(AttackMod):
    """Report minus the node's own update: ``global - (own - global)`` (NNM 14.3, LASA 7.3)."""

    def __init__(self, **options: Unpack[UpdateOptions]) -> None:
        super().__init__(attacks.SignFlip(), **options)


class Random(AttackMod):
    """Report Gaussian noise for an update (LASA 7.3); see `clients.attacks.Random`."""

    def __init__(self, std: float = 0.5, seed: int | None = None, **options: Unpack[UpdateOptions]) -> None:
        super().__init__(attacks.Random(std, seed=seed), **options)


class Noise(AttackMod):
    """Add Gaussian noise to the node's own update (LASA 7.3); see `clients.attacks.Noise`."""

    def __init__(self, std: float = 0.5, seed: int | None = None, **options: Unpack[UpdateOptions]) -> None:
        super().__init__(attacks.Noise(std, seed=seed), **options)


class Scaled(AttackMod):
    """Report the node's own update times a factor; see `clients.attacks.Scaled`."""

    def __init__(self, factor: float = 100.0, **options: Unpack[UpdateOptions]) -> None:
        super().__init__(attacks.Scaled(factor), **options)


class Gaussian(AttackMod):
    """Report Gaussian noise around a number for an update; see `clients.attacks.Gaussian`."""

    def __init__(
        self, std: float = 200.0, mean: float = 0.0, seed: int | None = None, **options: Unpack[UpdateOptions]
    ) -> None:
        super().__init__(attacks.Gaussian(std, mean, seed=seed), **options)


class ModelReplacement(AttackMod):
    """Report the node's own update times a factor, to survive averaging; see `clients.attacks.ModelReplacement`."""

    def __init__(self, factor: float, **options: Unpack[UpdateOptions]) -> None:
        super().__init__(attacks.ModelReplacement(factor), **options)


class PGD(AttackMod):
    """Report the node's own update, projected into a ball around the global model; see `clients.attacks.PGD`."""

    def __init__(self, radius: float, norm: float = 2, **options: Unpack[UpdateOptions]) -> None:
        super().__init__(attacks.PGD(radius, norm), **options)


class Neurotoxin(AttackMod):
    """Report the node's own update without what the global model moves most; see `clients.attacks.Neurotoxin`.

    The global model of the node's last round is kept in its state, which costs one model.
    """

    def __init__(self, ratio: float = 0.1, max_norm: float | None = None, **options: Unpack[UpdateOptions]) -> None:
        super().__init__(attacks.Neurotoxin(ratio, max_norm), **options)


class NonFinite(AttackMod):
    """Report NaN or infinity in each float; see `clients.attacks.NonFinite`."""

    def __init__(self, value: float = float("nan"), **options: Unpack[UpdateOptions]) -> None:
        super().__init__(attacks.NonFinite(value), **options)


class MalformedMod(ClientMod):
    """A mod that trains honestly and then spoils the arrays of the reply."""

    def __init__(self, attack: Malformed) -> None:
        self.attack = attack

    def begin(self, node: int, server_round: int) -> None:
        self.attack.draw_for(node, server_round)

    def train(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Train honestly, and spoil the reply; an error reply stays as it is."""
        reply = call_next(message, context)
        if not reply.has_error():
            reply.content = replace_arrays(reply.content, self.attack.spoil)
        return reply

    def fit(self, parameters: Parameters, fit: Callable[[], FitResult]) -> FitResult:
        """Train honestly, and spoil the arrays; bytes become an array of bytes: a NumPyClient can send nothing else."""
        trained, num_examples, metrics = fit()
        spoilt = [self.attack.spoil(np.asarray(array)) for array in trained]
        arrays = [np.frombuffer(what, np.uint8) if isinstance(what, bytes) else what for what in spoilt]
        return arrays, num_examples, metrics


class WrongShape(MalformedMod):
    """Report arrays with one value more than were sent; see `clients.attacks.WrongShape`."""

    def __init__(self) -> None:
        super().__init__(attacks.WrongShape())


class Garbage(MalformedMod):
    """Report random bytes where arrays should be; see `clients.attacks.Garbage`."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(attacks.Garbage(seed=seed))


class Silent(ClientMod):
    """Do not train, and reply with an error after `seconds`; see `clients.attacks.Silent`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.attack = attacks.Silent(seconds)

    def train(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        time.sleep(self.attack.seconds)
        return Message(Error(UNKNOWN_ERROR, "the node sends no update"), reply_to=message)

    def fit(self, parameters: Parameters, fit: Callable[[], FitResult]) -> FitResult:
        """Raise RuntimeError, which Flower makes an error reply."""
        time.sleep(self.attack.seconds)
        raise RuntimeError("the node sends no update")


class DataMod(ClientMod):
    """A mod that trains on poisoned data, for apps that follow the convention of `clients.data`.

    The app passes its data set through ``clients.PoisonedDataset(dataset)``, its arrays through
    ``clients.poisoned(inputs, labels)`` or, for label flips, its labels through ``clients.poisoned_labels(labels)``,
    inside its train function; without the mod these change nothing.
    """

    part: int | None = None

    def __init__(self, attack: DataAttack) -> None:
        self.attack = attack

    def train(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        with poison(self.attack, self.part):
            return call_next(message, context)

    def fit(self, parameters: Parameters, fit: Callable[[], FitResult]) -> FitResult:
        with poison(self.attack, self.part):
            return fit()


LabelMod = DataMod  # its name when it flipped labels alone


class BadNets(DataMod):
    """Train on images with a patch, labelled as the target, as `clients.attacks.BadNets`; see `DataMod`."""

    def __init__(self, *parameters: Any, **named: Any) -> None:
        super().__init__(attacks.BadNets(*parameters, **named))


class Blended(DataMod):
    """Train on inputs with a pattern, labelled as the target; see `clients.attacks.Blended` and `DataMod`."""

    def __init__(self, *parameters: Any, **named: Any) -> None:
        super().__init__(attacks.Blended(*parameters, **named))


class DBA(DataMod):
    """Train on images with one part of a trigger, labelled as the target; see `clients.attacks.DBA` and `DataMod`.

    `part` is the node's own. Default: its number, which is its partition where it has one.
    """

    def __init__(self, *parameters: Any, part: int | None = None, **named: Any) -> None:
        super().__init__(attacks.DBA(*parameters, **named))
        self._given_part = part

    def begin(self, node: int, server_round: int) -> None:
        """Take the node's part."""
        self.part = node if self._given_part is None else self._given_part


class EdgeCase(DataMod):
    """Train on rare inputs, labelled as the target; see `clients.attacks.EdgeCase` and `DataMod`."""

    def __init__(self, *parameters: Any, **named: Any) -> None:
        super().__init__(attacks.EdgeCase(*parameters, **named))


class SemanticLabelSwap(DataMod):
    """Train with the target for what meets a condition; see `clients.attacks.SemanticLabelSwap` and `DataMod`."""

    def __init__(self, *parameters: Any, **named: Any) -> None:
        super().__init__(attacks.SemanticLabelSwap(*parameters, **named))


class LabelFlip(DataMod):
    """Train on mirrored labels (NNM 14.3), as `clients.attacks.LabelFlip` flips them; see `DataMod`."""

    def __init__(self, num_classes: int, probability: float = 1.0, seed: int | None = None) -> None:
        super().__init__(attacks.LabelFlip(num_classes, probability, seed))


class DynamicLabelFlip(DataMod):
    """Train on the labels that the global model finds least probable (LPA 5.1), as `clients.attacks.DynamicLabelFlip`.

    See `DataMod`; the app also passes the global model's output for its samples on:
    ``poisoned_labels(labels, scores=...)`` or ``PoisonedDataset(dataset, scores=...)``.
    """

    def __init__(self, probability: float = 1.0, seed: int | None = None) -> None:
        super().__init__(attacks.DynamicLabelFlip(probability, seed))


def _move_since_last(model: Vector, context: Context) -> Vector | None:
    """Return how far the global model has moved since the node's last round, which its state holds; and note it."""
    last = context.state.array_records.get(LAST_MODEL)
    context.state[LAST_MODEL] = ArrayRecord({"model": Array(model)})
    if last is None:
        return None
    before = last["model"].numpy()
    return model - before if before.shape == model.shape else None


def node_number(context: Context) -> int:
    """Return the node's number: its partition where it has one, because Flower draws the ids of nodes anew."""
    return int(context.node_config.get("partition-id", context.node_id))


def round_of(configs: Iterable[Mapping[str, Any]], sent: bytes) -> int:
    """Return the number of the round that a configuration holds, else a checksum of what was sent."""
    found = (config[key] for config in configs for key in ROUND_KEYS if isinstance(config.get(key), int))
    return int(next(found, crc32(sent)))
