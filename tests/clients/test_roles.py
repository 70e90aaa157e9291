"""Which nodes are malicious in a round, and which of the honest ones they observe."""

from __future__ import annotations

import pytest

from clients import Adversary, attacks
from tests.clients.fake_nodes import FakeGrid, Spy, attacked, by_node, instructions, trained


def test_malicious_nodes_by_number_and_fraction():
    draws = [Adversary(FakeGrid(range(10), trained), attacks.SignFlip(), 3, seed=seed) for seed in (1, 1, 2)]
    chosen = [draw.malicious_ids for draw in draws]
    assert len(chosen[0]) == 3
    assert chosen[0] <= set(range(10))
    assert chosen[0] == chosen[1] != chosen[2]
    assert draws[0].malicious_ids == chosen[0]
    for share, count in ((0.3, 3), (0.29, 29), (0.0, 0), (1.0, 100), (0.999, 99)):
        nodes = range(10) if share == 0.3 else range(100)
        assert len(Adversary(FakeGrid(nodes, trained), attacks.SignFlip(), share).malicious_ids) == count


def test_grid_without_order_is_put_in_order_before_the_draw():
    ids = [900, 3, 77, 12, 5000, 41]
    one = Adversary(FakeGrid(dict.fromkeys(ids).keys(), trained), attacks.SignFlip(), 2, seed=4).malicious_ids
    two = Adversary(FakeGrid(dict.fromkeys(reversed(ids)).keys(), trained), attacks.SignFlip(), 2, seed=4).malicious_ids
    assert one == two


@pytest.mark.parametrize("malicious", [-1, 1.5, -0.1, True, "12", ["1"], None, [True], float("nan")])
def test_wrong_malicious(malicious):
    with pytest.raises(ValueError, match="Adversary was given malicious"):
        attacked(attacks.SignFlip(), malicious)


def test_more_malicious_than_nodes():
    _, adversary = attacked(attacks.SignFlip(), 7)
    with pytest.raises(ValueError, match="malicious = 7, but the grid has 6 nodes"):
        adversary.send_and_receive(instructions([1]))


def observed(rounds=1, **options):
    """What an attack is shown in some rounds of nodes 1 to 6, and the adversary."""
    spy = Spy()
    _, adversary = attacked(spy, [2], sees=0.4, **options)
    for _ in range(rounds):
        adversary.send_and_receive(instructions(range(1, 7)))
    return spy.shown, adversary


def test_the_same_nodes_are_observed_in_each_round():
    shown, adversary = observed(rounds=3, seed=3)
    assert len({tuple(sight.ids) for sight in shown}) == 1
    # With sampling, the share is of the honest nodes that take part.
    adversary.send_and_receive(instructions([2, *sorted({1, 3, 4, 5, 6} - {*shown[0].ids})]))
    assert len(shown[-1].honest) == 1
    assert len({tuple(sorted(observed(seed=seed)[0][0].ids)) for seed in range(8)}) > 1


def test_malicious_nodes_redrawn_in_each_round():
    def run(seed):
        _, adversary = attacked(attacks.SignFlip(), 2, seed=seed, redraw=True)
        drawn = []
        for _ in range(8):
            grid_before = len(adversary.grid.given)
            replies = adversary.send_and_receive(instructions(range(1, 7)))
            given = by_node(adversary.grid.given[grid_before:])
            changed = frozenset(n for n, reply in by_node(replies).items() if reply is not given[n])
            assert changed == adversary.malicious_ids
            drawn.append(changed)
        return drawn

    first = run(1)
    assert all(len(drawn) == 2 for drawn in first)
    assert len(set(first)) > 2
    assert run(1) == first
    assert run(2) != first


def test_redrawing_goes_on_where_it_stood():
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sees": 1.5}, r"sees = 1.5; give a number in \[0, 1\]"),
        ({"sees": True}, r"sees = True"),
        ({"seed": -1}, r"seed = -1; give None or a whole number of 0 or more"),
        ({"redraw": True}, r"redraw = True with node ids; give a number or a fraction"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        attacked(attacks.SignFlip(), [2], **options)
