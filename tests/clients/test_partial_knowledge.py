"""What attackers see: all honest updates, or a share of them (MixTailor A.1.2); and who they are in a round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message

from clients import Adversary, attacks
from flwr_robust import rules
from tests.clients.fake_nodes import FakeGrid, attacked, by_node, floats, instructions, model, trained, update


def draw(rows: int, columns: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0.3, 1.0, (rows, columns))


class Spy(attacks.SignFlip):
    """Keeps what it was shown."""

    shown: list[attacks.Sight]

    def craft(self, sight: attacks.Sight) -> Any:
        self.shown.append(sight)
        return super().craft(sight)


@pytest.fixture
def spy() -> Spy:
    class Fresh(Spy):
        shown: list[attacks.Sight] = []  # noqa: RUF012 - one a test

    return Fresh()


def test_moments_take_in_the_attackers_own_updates_where_some_are_not_seen() -> None:
    honest, own = draw(3, 8), draw(2, 8, seed=1)
    known = np.vstack([honest, own])
    np.testing.assert_allclose(attacks.SignFlip()(honest, 2, own=own, unseen=4)[0], -known.mean(axis=0))
    np.testing.assert_allclose(
        attacks.ALittleIsEnough(1.5)(honest, 2, own=own, unseen=4)[0], known.mean(axis=0) + 1.5 * known.std(axis=0)
    )
    # All are seen: the papers' omniscient attacker.
    np.testing.assert_allclose(attacks.SignFlip()(honest, 2, own=own)[0], -honest.mean(axis=0))
    # None is seen: all that the attackers have is their own.
    nothing = np.empty((0, 8))
    np.testing.assert_allclose(attacks.SignFlip()(nothing, 2, own=own, unseen=4)[0], -own.mean(axis=0))
    np.testing.assert_allclose(attacks.Mimic()(nothing, 2, own=own, unseen=4), own)


@pytest.mark.parametrize(
    "rule", [rules.Krum(f=2), rules.chain(rules.NNM(f=2), rules.Median()), lambda rows: np.median(rows, axis=0)]
)
def test_the_mean_stands_for_what_is_not_seen(rule: Any) -> None:
    honest, own, unseen, f = draw(5, 30), draw(2, 30, seed=1), 3, 2
    mean = np.vstack([honest, own]).mean(axis=0)

    def damage(epsilon: float) -> float:
        rows = np.vstack([honest, np.tile(mean, (unseen, 1)), np.tile(mean - epsilon * mean, (f, 1))])
        return float(np.linalg.norm(rule(rows) - mean))

    made = attacks.FallOfEmpires("optimal")(honest, f, rule=rule, own=own, unseen=unseen)
    tau = float(np.median((mean - made[0]) / mean))
    assert damage(tau) >= max(damage(factor) for factor in attacks.FACTORS) * (1 - 1e-6)


def test_byz_mean_counts_the_unseen() -> None:
    honest, own = draw(5, 6), draw(2, 6, seed=1)
    made = attacks.ByzMean(attacks.Lie(0.5))(honest, 2, own=own, unseen=3)
    mean = np.vstack([honest, own]).mean(axis=0)
    everybody = np.vstack([honest, np.tile(mean, (3, 1)), made])
    np.testing.assert_allclose(everybody.mean(axis=0), made[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unseen": -1}, "unseen = -1; give a whole number of 0 or more"),
        ({"own": np.ones((1, 8))}, r"own updates of shape \(1, 8\); give \(f, d\) = \(2, 8\)"),
        ({"own": np.ones((2, 3))}, r"own updates of shape \(2, 3\)"),
    ],
)
def test_wrong_sight(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attacks.SignFlip()(draw(3, 8), 2, **arguments)


def test_nothing_to_go_by() -> None:
    with pytest.raises(ValueError, match=r"no honest updates; give at least one row, or own="):
        attacks.SignFlip()(np.empty((0, 8)), 2, unseen=3)


def test_adversary_shows_a_share_and_the_malicious_nodes_own(spy: Spy) -> None:
    grid, adversary = attacked(spy, [2, 5], sees=0.5, seed=3)
    replies = adversary.send_and_receive(instructions(range(1, 7)))
    (sight,) = spy.shown
    given = by_node(grid.given)
    assert (len(sight.honest), sight.unseen, sight.f) == (2, 2, 2)
    for node, row in zip(sight.ids, sight.honest, strict=True):
        assert node in (1, 3, 4, 6)
        np.testing.assert_allclose(row, update(given[node]), atol=1e-6)  # type: ignore[index]
    assert sight.trained is not None
    np.testing.assert_allclose(sight.trained, [update(given[2]), update(given[5])], atol=1e-6)
    known = [*sight.honest, *sight.trained]
    np.testing.assert_allclose(update(by_node(replies)[2]), -np.mean(known, axis=0), atol=1e-6)


def test_the_same_nodes_are_watched_in_each_round(spy: Spy) -> None:
    _, adversary = attacked(spy, [2], sees=0.4, seed=3)
    for _ in range(3):
        adversary.send_and_receive(instructions(range(1, 7)))
    assert len({tuple(sight.ids) for sight in spy.shown}) == 1
    watched = {*spy.shown[0].ids}
    # With sampling, the share is of the honest nodes that take part.
    adversary.send_and_receive(instructions([2, *sorted({1, 3, 4, 5, 6} - watched)]))
    assert len(spy.shown[-1].honest) == 1
    seeds = {tuple(sorted(_watched(seed))) for seed in range(8)}
    assert len(seeds) > 1


def _watched(seed: int) -> Any:
    class Other(Spy):
        shown: list[attacks.Sight] = []  # noqa: RUF012

    _, adversary = attacked(Other(), [2], sees=0.4, seed=seed)
    adversary.send_and_receive(instructions(range(1, 7)))
    return Other.shown[0].ids


@pytest.mark.parametrize("sees", [None, 1.0])
def test_seeing_all_is_the_omniscient_attacker(sees: float | None) -> None:
    grid, adversary = attacked(attacks.ALittleIsEnough(1.5), [2, 5], sees=sees)
    replies = by_node(adversary.send_and_receive(instructions(range(1, 7))))
    honest = np.array([update(by_node(grid.given)[node]) for node in (1, 3, 4, 6)])
    np.testing.assert_allclose(update(replies[2]), honest.mean(axis=0) + 1.5 * honest.std(axis=0), atol=1e-5)


def test_seeing_nothing_leaves_the_own_updates() -> None:
    grid, adversary = attacked(attacks.SignFlip(), [2, 5], sees=0.0)
    replies = by_node(adversary.send_and_receive(instructions(range(1, 7))))
    own = [update(by_node(grid.given)[node]) for node in (2, 5)]
    np.testing.assert_allclose(update(replies[2]), -np.mean(own, axis=0), atol=1e-6)


def test_malicious_nodes_redrawn_in_each_round() -> None:
    def run(seed: int) -> list[frozenset[int]]:
        _, adversary = attacked(attacks.SignFlip(), 2, seed=seed, redraw=True)
        drawn = []
        for _ in range(8):
            grid_before = len(adversary._grid.given)
            replies = adversary.send_and_receive(instructions(range(1, 7)))
            given = by_node(adversary._grid.given[grid_before:])
            changed = frozenset(n for n, reply in by_node(replies).items() if reply is not given[n])
            assert changed == adversary.malicious_ids
            drawn.append(changed)
        return drawn

    first = run(1)
    assert all(len(drawn) == 2 for drawn in first)
    assert len(set(first)) > 2
    assert run(1) == first
    assert run(2) != first


def test_redrawing_goes_on_where_it_stood() -> None:
    _, whole = attacked(attacks.SignFlip(), 0.5, seed=4, redraw=True)
    ids = []
    for _ in range(6):
        whole.send_and_receive(instructions(range(1, 7)))
        ids.append(whole.malicious_ids)
    _, first = attacked(attacks.SignFlip(), 0.5, seed=4, redraw=True)
    for _ in range(3):
        first.send_and_receive(instructions(range(1, 7)))
    _, resumed = attacked(attacks.SignFlip(), 0.5, seed=4, redraw=True)
    resumed.load_state(first.state())
    for expected in ids[3:]:
        resumed.send_and_receive(instructions(range(1, 7)))
        assert resumed.malicious_ids == expected


def test_pushed_and_pulled_rounds_keep_their_own_malicious_nodes() -> None:
    _, adversary = attacked(attacks.SignFlip(), 2, seed=1, redraw=True)
    first, second = (adversary.push_messages(instructions(range(1, 7))) for _ in range(2))
    in_second = adversary.malicious_ids
    one = by_node(adversary.pull_messages(first))
    given = adversary._grid.given
    changed_first = {n for n, reply in one.items() if reply is not by_node(given[:6])[n]}
    changed_second = {
        n for n, reply in by_node(adversary.pull_messages(second)).items() if reply is not by_node(given[6:])[n]
    }
    assert changed_second == in_second
    assert len(changed_first) == 2


def with_statistics() -> ArrayRecord:
    arrays = model()
    return ArrayRecord(
        {**arrays, "bn.running_mean": Array(np.zeros(4, np.float32)), "bn.running_var": Array(np.ones(4, np.float32))}
    )


@pytest.mark.parametrize("statistics", [True, False])
def test_running_statistics_are_attacked_or_left_alone(statistics: bool) -> None:
    grid = FakeGrid(range(1, 7), trained)
    adversary = Adversary(grid, attacks.SignFlip(), malicious=[2], statistics=statistics)
    replies = by_node(adversary.send_and_receive(instructions(range(1, 7), arrays=with_statistics())))
    given = by_node(grid.given)
    forged, own = (_arrays(which[2]) for which in (replies, given))
    for key in ("bn.running_mean", "bn.running_var"):
        attacked_it = forged[key].numpy().tolist() != own[key].numpy().tolist()
        assert attacked_it == statistics
        if statistics:
            sent = with_statistics()[key].numpy()
            honest = np.mean([_arrays(given[node])[key].numpy() - sent for node in (1, 3, 4, 5, 6)], axis=0)
            np.testing.assert_allclose(forged[key].numpy(), sent - honest, atol=1e-6)
    expected = -np.mean([update(given[node]) for node in (1, 3, 4, 5, 6)], axis=0)
    np.testing.assert_allclose(update(replies[2]), expected, atol=1e-6)
    assert forged["seen"].numpy() == own["seen"].numpy()
    assert (floats(replies[1].content) == floats(given[1].content)).all()


def _arrays(reply: Message) -> ArrayRecord:
    return next(iter(reply.content.array_records.values()))


def test_nobody_malicious_changes_nothing() -> None:
    for attack in (attacks.SignFlip(), attacks.Silent(), attacks.Garbage(), attacks.Random()):
        grid, adversary = attacked(attack, 0, sees=0.5, redraw=True)
        replies = adversary.send_and_receive(instructions(range(1, 7)))
        assert all(reply is given for reply, given in zip(replies, grid.given, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sees": 1.5}, r"sees = 1.5; give a number in \[0, 1\]"),
        ({"sees": True}, r"sees = True"),
        ({"redraw": True}, r"redraw = True with node ids; give a number or a fraction"),
    ],
)
def test_wrong_options(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attacked(attacks.SignFlip(), [2], **options)


def test_rules_that_know_layers_are_asked_with_the_attacked_ones() -> None:
    asked = []

    def rule(rows: Any, layers: Any = None) -> Any:
        asked.append([name for name, _ in layers])
        return rows.mean(axis=0)

    grid = FakeGrid(range(1, 7), trained)
    adversary = Adversary(grid, attacks.FallOfEmpires("optimal"), malicious=[2], rule=rule, statistics=False)
    adversary.send_and_receive(instructions(range(1, 7), arrays=with_statistics()))
    assert asked[0] == ["w", "b"]


def test_mods_leave_running_statistics_alone_too() -> None:
    from clients import mods
    from tests.clients.test_faults import context

    def step(message: Message, _: Any) -> Message:
        return trained(message)

    order = next(iter(instructions([7], arrays=with_statistics())))
    honest = _arrays(trained(order))
    forged = _arrays(mods.SignFlip(statistics=False)(order, context(), step))
    for key in ("bn.running_mean", "bn.running_var"):
        np.testing.assert_array_equal(forged[key].numpy(), honest[key].numpy())
    sent = with_statistics()
    np.testing.assert_allclose(forged["w"].numpy(), 2 * sent["w"].numpy() - honest["w"].numpy(), atol=1e-6)
    named = mods.SignFlip(statistics=False, names=["w", "bn.running_var"])
    zeros = [np.zeros(2, np.float32)] * 2
    reported, _, _ = named.fit(zeros, lambda: ([np.ones(2, np.float32)] * 2, 1, {}))
    assert [array.tolist() for array in reported] == [[-1, -1], [1, 1]]
    with pytest.raises(ValueError, match=r"names = None; a NumPyClient's 2 arrays have no names of their own"):
        mods.SignFlip(statistics=False).fit(zeros, lambda: (zeros, 1, {}))
