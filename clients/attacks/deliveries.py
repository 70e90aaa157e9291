"""Deliveries: how malicious nodes bring what they trained, a backdoor say, past the server."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from flwr_robust.engine.choose import like
from flwr_robust.rules.checks import number, whole_number

from .base import WithoutUpdates, as_array
from .moments import Matrix, Vector, column_means
from .sight import Sight
from .tuning import OPTIMAL, Tunable

Update = TypeVar("Update")


class Delivery(Tunable):
    """Send one's own update, changed; the honest mean stands for own updates that are not known.

    "optimal" searches the parameter that brings the server's output nearest to the mean of the attackers' own updates:
    a backdoor, not a broken model.
    """

    knows = "own"

    @abstractmethod
    def deliver(self, own: Matrix, sight: Sight) -> Matrix:
        """Return what is sent in the place of the (f, d) own updates."""

    def craft_with(self, sight: Sight) -> Matrix:
        return self.deliver(sight.own, sight)

    def goal(self, sight: Sight) -> Vector | None:
        """Return the mean of the own updates."""
        return column_means(sight.own)


@dataclass(frozen=True)
class ModelReplacement(Delivery):
    r"""Send one's own update times a factor, so that it survives averaging (Bagdasaryan et al., AISTATS 2020).

    $$b_i = \gamma \, x_i, \qquad \gamma = \frac{n}{f \eta}$$

    With that factor the mean of n updates, the honest ones near zero, moves the model at server learning rate eta by
    the mean of the attackers' own updates.

    Parameters
    ----------
    factor : float, None or "optimal"
        Gamma, above 0. Default: n / (f eta), from all n updates of the round. A node on its own must give a number.
    server_learning_rate : float
        Eta, above 0.

    Examples
    --------
    >>> ModelReplacement()(np.zeros((3, 2)), 1, own=np.array([[1.0, 2.0]]))
    array([[4., 8.]])
    """

    factor: float | str | None = None
    server_learning_rate: float = 1.0

    tuned: ClassVar[str] = "factor"

    def __post_init__(self) -> None:
        if self.factor is not None and self.factor != OPTIMAL:
            number(self.factor, "factor", "ModelReplacement", above=0)
        number(self.server_learning_rate, "server_learning_rate", "ModelReplacement", above=0)
        super().__post_init__()

    def candidates(self, sight: Sight) -> Sequence[float]:
        """Return factors from 1/4 to 128, by the square root of 2."""
        return tuple(2 ** (step / 2) for step in range(-4, 15))

    def deliver(self, own: Matrix, sight: Sight) -> Matrix:
        factor = self.factor
        if factor is None:
            factor = (sight.num_honest + sight.f) / (max(sight.f, 1) * self.server_learning_rate)
        with np.errstate(over="ignore"):
            return own * own.dtype.type(factor)

    def missing_alone(self) -> str:
        return "factor" if self.factor is None else ""


@dataclass(frozen=True)
class PGD(Delivery):
    """Project one's own update into a ball around the global model (Wang et al., NeurIPS 2020).

    A norm bound then sees nothing unusual. To combine it with `ModelReplacement`, which scales what was projected:
    ``ModelReplacement(factor)(H, f, own=PGD(radius)(H, f, own=own))``.

    Parameters
    ----------
    radius : float, None or "optimal"
        The ball's, above 0. Default: the median norm of the honest updates. A node on its own must give a number.
    norm : {2, math.inf}
        Euclidean: long updates are scaled; or coordinates are cut to [-radius, radius].

    Examples
    --------
    >>> PGD(radius=5.0)(np.zeros((3, 2)), 1, own=np.array([[6.0, 8.0]]))
    array([[3., 4.]])
    """

    radius: float | str | None = None
    norm: float = 2

    tuned: ClassVar[str] = "radius"

    def __post_init__(self) -> None:
        if self.radius is not None and self.radius != OPTIMAL:
            number(self.radius, "radius", "PGD", above=0)
        if isinstance(self.norm, bool) or self.norm not in (2, math.inf):
            raise ValueError(f"PGD was given norm = {self.norm!r}; give 2 or math.inf.")
        if self.radius is None:
            object.__setattr__(self, "knows", "honest")
        super().__post_init__()

    def candidates(self, sight: Sight) -> Sequence[float]:
        """Return multiples of the median honest norm, from 1/4 to 10."""
        usual = self._usual_radius(sight)
        return tuple(usual * step / 4 for step in range(1, 41)) if usual else ()

    def deliver(self, own: Matrix, sight: Sight) -> Matrix:
        radius = self._usual_radius(sight) if self.radius is None else float(self.radius)
        return self._projected(own, radius)

    def project(self, update: Update) -> Update:
        """Return an update inside the ball: what a trainer does after each of its steps.

        Parameters
        ----------
        update : (d,) or (f, d) array or tensor
            The model minus the global one; of several, each by itself.

        Raises
        ------
        ValueError
            If there is no radius.
        """
        if self.radius is None or isinstance(self.radius, str):
            raise ValueError(f"PGD was given radius = {self.radius!r}; give a number to project without other updates.")
        given = np.asarray(as_array(update))
        projected: Update = like(self._projected(np.atleast_2d(given), self.radius).reshape(given.shape), update)
        return projected

    def missing_alone(self) -> str:
        return "radius" if self.radius is None else ""

    def _usual_radius(self, sight: Sight) -> float:
        return float(np.median(lengths(sight.known, self.norm)))

    def _projected(self, rows: Matrix, radius: float) -> Matrix:
        return clipped(rows, radius) if self.norm == 2 else np.clip(rows, -radius, radius)


@dataclass(frozen=True)
class Neurotoxin(Delivery):
    """Leave out the coordinates that the global model moves most, so that a backdoor lasts (Zhang et al., ICML 2022).

    The ``floor(ratio * d)`` coordinates of one's own update where the last move of the global model is largest in size
    become zero, of equal ones those of lower index. The rest is clipped.

    Parameters
    ----------
    ratio : float or "optimal"
        Share of the coordinates that is left out, in [0, 1].
    max_norm : float, optional
        Norm to which the rest is clipped, above 0. Default: it is not.

    Notes
    -----
    The call takes the last move as `previous`; without it, as in the first round, the honest mean stands for it.

    Examples
    --------
    >>> Neurotoxin(ratio=0.5)(np.zeros((2, 2)), 1, own=np.array([[1.0, 2.0]]), previous=np.array([-3.0, 1.0]))
    array([[0., 2.]])
    """

    ratio: float | str = 0.1
    max_norm: float | None = None

    tuned: ClassVar[str] = "ratio"
    follows_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.ratio != OPTIMAL:
            number(self.ratio, "ratio", "Neurotoxin", at_least=0, at_most=1)
        if self.max_norm is not None:
            number(self.max_norm, "max_norm", "Neurotoxin", above=0)
        super().__post_init__()

    def candidates(self, sight: Sight) -> Sequence[float]:
        """Return shares from 0 to 0.95."""
        return tuple(step / 20 for step in range(20))

    def deliver(self, own: Matrix, sight: Sight) -> Matrix:
        move = sight.mean if sight.previous is None else sight.previous
        count = math.floor(float(self.ratio) * len(move))
        sent = own.copy()
        sent[:, np.argsort(-np.abs(move), kind="stable")[:count]] = 0
        return sent if self.max_norm is None else clipped(sent, self.max_norm)


@dataclass(frozen=True)
class AlterMin(WithoutUpdates):
    r"""Train towards the attackers' goal and back towards the honest one, in turns (Bhagoji et al., ICML 2019).

    $$w \leftarrow w - \lambda \eta \, \nabla L_\text{malicious}(w), \qquad
    w \leftarrow w - \eta \left( \nabla L_\text{clean}(w) + 2 \rho (w - w_\text{global} - c) \right)$$

    No function of updates: `train` takes the place of a node's training.

    Parameters
    ----------
    boost : float
        Lambda, above 0: how much larger malicious steps are.
    rho : float
        How much updates that are unlike `centre` cost, 0 or more.
    epochs : int
        Turns.
    malicious_steps, stealth_steps : int
        Steps of each kind in a turn.
    learning_rate : float
        Eta, above 0.
    """

    boost: float = 10.0
    rho: float = 1e-4
    epochs: int = 5
    malicious_steps: int = 1
    stealth_steps: int = 10
    learning_rate: float = 0.1

    knows = "own"

    def __post_init__(self) -> None:
        number(self.boost, "boost", "AlterMin", above=0)
        number(self.rho, "rho", "AlterMin", at_least=0)
        number(self.learning_rate, "learning_rate", "AlterMin", above=0)
        for name in ("epochs", "malicious_steps", "stealth_steps"):
            whole_number(getattr(self, name), name, "AlterMin")

    def train(
        self,
        model: Any,
        malicious_gradient: Callable[[Any], Any],
        clean_gradient: Callable[[Any], Any],
        centre: Any = None,
    ) -> Any:
        """Return the update that alternating minimisation makes of a model.

        Parameters
        ----------
        model : (d,) array or tensor
            The global model; not modified.
        malicious_gradient, clean_gradient : callable
            From a model to the gradient of the attackers' loss, and of the honest one.
        centre : (d,) array or tensor, optional
            What an honest update is expected to be: the last move of the global model. Default: zero.

        Returns
        -------
        (d,) array or tensor
            The trained model minus the given one.

        Examples
        --------
        >>> one = AlterMin(boost=2.0, rho=0.0, epochs=1, stealth_steps=1)
        >>> one.train(np.zeros(1), lambda w: w - 10, lambda w: w)
        array([1.8])
        """
        trained = model
        for _ in range(self.epochs):
            for _ in range(self.malicious_steps):
                trained = trained - self.boost * self.learning_rate * malicious_gradient(trained)
            for _ in range(self.stealth_steps):
                away = trained - model if centre is None else trained - model - centre
                trained = trained - self.learning_rate * (clean_gradient(trained) + 2 * self.rho * away)
        return trained - model

    def craft(self, sight: Sight) -> Matrix:
        """Raise TypeError: there are no updates to compute."""
        raise TypeError(f"{self!r} makes no updates of updates; call its train() in the place of a node's training.")


def lengths(rows: Matrix, norm: float) -> Vector:
    """Return the Euclidean norm of each row, or its largest entry in size."""
    if norm != 2:
        return np.asarray(np.abs(rows).max(axis=1, initial=0.0), dtype=np.float64)
    # Of the largest entry first: squares overflow where the norm does not.
    largest = np.abs(rows).max(axis=1, initial=0.0, keepdims=True).astype(np.float64)
    scaled = rows / np.where(largest > 0, largest, 1.0)
    found: Vector = largest[:, 0] * np.sqrt(np.einsum("ij,ij->i", scaled, scaled))
    return found


def clipped(rows: Matrix, bound: float) -> Matrix:
    """Return rows of which none is longer than this: ``x * min(1, bound / |x|)``."""
    norms = lengths(rows, 2)
    factors = np.minimum(1.0, bound / np.where(norms > 0, norms, 1.0))
    shorter: Matrix = (rows * factors[:, None]).astype(rows.dtype)
    return shorter
