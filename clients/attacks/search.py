"""The line search of the optimised attacks: which factor makes the server's rule err most."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from flwr_robust import rules
from flwr_robust.engine.updates import Updates
from flwr_robust.rules.whatif import Outcomes, can_plan, outcomes

from .moments import Matrix, Vector
from .sight import Rule, Sight, repeat

# NNM and ARC search "a predefined range"; they do not print it.
FACTORS: tuple[float, ...] = tuple(0.25 * step for step in range(41))

_log = logging.getLogger(__name__)


class SearchError(ValueError):
    """The server's rule gave no output for any factor."""


def line_search(
    honest: Matrix, direction: Vector, f: int, rule: Rule, factors: Sequence[float]
) -> tuple[float, Vector]:
    """Find the factor that drives the rule's output farthest from the honest mean.

    ``argmax_tau || rule(x_1..x_{n-f}, b, ..., b) - mean ||_2`` with ``b = mean + tau * direction`` sent f
    times, in the last rows (NNM 14.3, ARC D.3).

    Parameters
    ----------
    honest : (n - f, d) float array
        The honest updates; not modified.
    direction : (d,) float64 array
        Where the malicious updates move from the honest mean.
    f : int
        Number of malicious rows.
    rule : callable
        ``(n, d) -> (d,)``. A copy is asked for each factor, so that its state and its draws stay put. A linear
        or coordinate-wise chain of `flwr_robust.rules` (also with its layers, in a `functools.partial`) costs two
        passes for all factors.
    factors : sequence of float
        The values of tau to try.

    Returns
    -------
    best : float
        The factor with the largest damage; the smallest one of several.
    damages : (len(factors),) float64 array
        The distance for each factor; NaN where the rule refused the rows, or where they overflow their dtype.

    Raises
    ------
    SearchError
        If no factor gives a distance.
    """
    damages = try_factors(Sight(honest, f, rule), direction, factors, rule).errors
    return best_of(factors, damages), damages


def best_of(factors: Sequence[float], gains: Vector) -> float:
    """Return the factor with the largest gain; the smallest one of several."""
    largest = np.nanmax(gains)
    return float(min(factor for factor, gain in zip(factors, gains, strict=True) if gain == largest))


def try_factors(sight: Sight, direction: Vector, factors: Sequence[float], rule: Rule, start: float = 1.0) -> Outcomes:
    """Compare the rule's output with the honest mean where f nodes send ``start * mean + tau * direction``.

    Parameters
    ----------
    sight : Sight
        The round. The mean stands for each update that the attackers do not see.
    direction, factors, rule
        See `line_search`.
    start : float
        Where the line starts, in means.

    Raises
    ------
    SearchError
        If no factor gives an output.
    """
    chain, options = bare(rule)
    if isinstance(chain, rules.Rule) and can_plan(chain):
        found, refusal = _planned(sight, direction, factors, chain, start, options.get("layers"))
    else:
        found, refusal = _tried(sight, direction, factors, rule, start)
    if np.isnan(found.errors).all():
        raise SearchError(
            f"none of {len(factors)} factors could be tried on {rule!r} with {sight.num_honest} honest and {sight.f} "
            f"malicious rows ({refusal}); give a rule that accepts this many rows, and finite factors."
        )
    return found


def bare(rule: Rule) -> tuple[Rule, dict[str, Any]]:
    """Return a rule without the `functools.partial` around it, and the keywords of that, such as layers."""
    return (rule.func, rule.keywords) if isinstance(rule, partial) else (rule, {})


def _planned(
    sight: Sight, direction: Vector, factors: Sequence[float], rule: rules.Rule, start: float, layers: Any
) -> tuple[Outcomes, str]:
    """Outcomes of a chain of ours: all factors in two passes over the known updates and the direction."""
    known = len(sight.known)
    mean = np.append(np.full(known, 1.0 / known), 0.0)
    shift = np.append(np.zeros(known), 1.0)
    honest = np.vstack([np.eye(len(sight.honest), known + 1), np.tile(mean, (sight.unseen, 1))])
    mixes = [np.vstack([honest, np.tile(start * mean + tau * shift, (sight.f, 1))]) for tau in factors]
    points = Updates.of_rows([*sight.known, direction], layers)
    try:
        return outcomes(rule, points, mixes, mean), "there are no factors to try"
    except ValueError as error:
        return Outcomes.unknown(len(factors)), str(error)


def _tried(sight: Sight, direction: Vector, factors: Sequence[float], rule: Rule, start: float) -> tuple[Outcomes, str]:
    """Outcomes of any callable, one call for each factor."""

    def along(factor: float) -> Matrix:
        return repeat(start * sight.mean + factor * direction, sight.f, sight.honest)

    found = Outcomes.unknown(len(factors))
    refusal = "there are no factors to try"
    for index, output in enumerate(_outputs(sight, [partial(along, factor) for factor in factors], rule)):
        if isinstance(output, str):
            refusal = output
        else:
            found.errors[index], found.inner_products[index] = _compare(output, sight.mean)
    return found, refusal


def try_rows(sight: Sight, crafts: Sequence[Callable[[], Matrix]], rule: Rule, goal: Vector | None = None) -> Vector:
    """Return how well several sets of malicious updates serve the attackers, one call of the rule each.

    Parameters
    ----------
    sight : Sight
        The round. The mean stands for each update that the attackers do not see.
    crafts : sequence of callable
        Each makes (f, d) updates.
    rule : callable
        See `line_search`.
    goal : (d,) float64 array, optional
        What the attackers want the output to be. Default: as far from the honest mean as it goes.

    Returns
    -------
    (len(crafts),) float64 array
        The distance of the rule's output from the honest mean, or minus its distance from the goal; NaN where the rule
        refused the rows, where they are not finite, or where an output that is not finite serves no goal.

    Raises
    ------
    SearchError
        If none can be tried.
    """
    gains, refusal = np.full(len(crafts), np.nan), "there is nothing to try"
    for index, output in enumerate(_outputs(sight, crafts, rule)):
        if isinstance(output, str):
            refusal = output
        elif goal is None:
            gains[index] = _compare(output, sight.mean)[0]
        elif np.isfinite(output).all():
            gains[index] = -np.linalg.norm(output - goal)
    if np.isnan(gains).all():
        raise SearchError(
            f"none of {len(crafts)} candidates could be tried on {rule!r} with {sight.num_honest} honest and {sight.f} "
            f"malicious rows ({refusal}); give a rule that accepts this many rows, and finite candidates."
        )
    return gains


def _outputs(sight: Sight, crafts: Iterable[Callable[[], Matrix]], rule: Rule) -> Iterator[Vector | str]:
    """Yield the rule's output for each set of malicious updates, or why there is none."""
    honest = sight.honest
    rows = np.empty((sight.num_honest + sight.f, honest.shape[1]), dtype=honest.dtype)
    rows[: len(honest)] = honest
    rows[len(honest) : sight.num_honest] = sight.mean
    for craft in crafts:
        with np.errstate(over="ignore"):
            rows[sight.num_honest :] = craft()
        if not np.isfinite(rows[sight.num_honest :]).all():
            yield f"malicious rows overflow {rows.dtype}"
            continue
        try:
            yield np.asarray(copy.deepcopy(rule)(rows), dtype=np.float64)
        except (ValueError, ArithmeticError) as error:
            _log.debug("line search: the rule refused: %s", error)
            yield str(error)


def _compare(output: Vector, mean: Vector) -> tuple[float, float]:
    """Return distance and inner product; the worst of both where the output is not finite."""
    if not np.isfinite(output).all():
        return float("inf"), float("-inf")
    return float(np.linalg.norm(output - mean)), float(output @ mean)
