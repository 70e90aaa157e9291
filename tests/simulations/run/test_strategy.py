"""Whole runs without Flower's engine: who takes part, who is asked, what each new parameter changes."""

from collections import Counter

import numpy as np
import pytest

from simulations.config.run_config import RunConfig
from tests.simulations.local_grid import LocalGrid, run_locally

BASE = RunConfig(
    partition="iid",
    num_malicious=1,
    attack="foe",
    attack_args="tau=2",
    defense="trimmed-mean",
    num_rounds=3,
    model="mlp",
)


def numbers(result):
    return [(line["accuracy"], line["loss"]) for line in result.rounds]


def values(record):
    return np.concatenate([array.numpy().ravel() for array in record.values()])


def test_runs_do_not_depend_on_node_ids_or_the_order_of_replies(tmp_path):
    one, two = (run_locally(BASE, tmp_path / str(seed), LocalGrid(5, seed)) for seed in (1, 2))
    assert numbers(one) == numbers(two)


def test_the_first_nodes_alone_take_part_as_if_there_were_no_others(tmp_path):
    grid = LocalGrid(9)
    among_others = run_locally(BASE.replace(num_nodes=5), tmp_path, grid)
    assert among_others.num_nodes == 5
    assert among_others.malicious == [4]
    assert sorted(among_others.partition_of.values()) == list(range(5))
    assert grid.asked == [[0, 1, 2, 3, 4]] * 3
    assert numbers(among_others) == numbers(run_locally(BASE, tmp_path, 5))


def test_the_same_nodes_are_asked_in_each_run_with_one_seed_in_partition_order(tmp_path):
    config = BASE.replace(fraction_train=0.5, num_rounds=8)
    grids = [LocalGrid(12) for _ in range(3)]
    results = [
        run_locally(config.replace(seed=seed), tmp_path / str(place), grid)
        for place, (seed, grid) in enumerate(zip((1, 1, 2), grids, strict=True))
    ]
    one, again, other = (grid.asked for grid in grids)
    assert one == again != other
    assert numbers(results[0]) == numbers(results[1])
    assert all(asked == sorted(set(asked)) and len(asked) == 6 for asked in one)
    # Each round draws anew, and every node has its turn.
    assert len({tuple(asked) for asked in one}) > 4
    assert len(Counter(partition for asked in one for partition in asked)) == 12


@pytest.mark.parametrize("attack", ["foe", "label-flip", "byzmean"])
def test_malicious_nodes_attack_in_the_rounds_in_which_they_are_asked(tmp_path, attack):
    config = BASE.replace(fraction_train=0.5, num_rounds=6, num_malicious=3, attack=attack, attack_args="")
    config = config.replace(defense="mean")
    grid, quiet = LocalGrid(8), LocalGrid(8)
    run_locally(config, tmp_path / "attacked", grid)
    run_locally(config.replace(attack="none"), tmp_path / "quiet", quiet)
    assert grid.asked == quiet.asked
    assert len({sum(partition >= 5 for partition in asked) for asked in grid.asked}) > 1
    assert not np.array_equal(values(grid.models[-1]), values(quiet.models[-1]))


def test_initial_scale_multiplies_the_model_that_is_sent_first(tmp_path):
    grids = [LocalGrid(5) for _ in range(2)]
    for scale, grid in zip((1.0, 3.0), grids, strict=True):
        run_locally(BASE.replace(init_scale=scale, num_rounds=1), tmp_path, grid)
    np.testing.assert_allclose(values(grids[1].models[0]), 3 * values(grids[0].models[0]), rtol=1e-6)


def test_server_rate_and_momentum_follow_their_formula(tmp_path):
    config = BASE.replace(attack="none", defense="mean", momentum=0.0, num_rounds=4)
    plain = LocalGrid(3)
    run_locally(config.replace(num_rounds=2), tmp_path, plain)
    aggregate = values(plain.models[1]) - values(plain.models[0])
    grid = LocalGrid(3)
    run_locally(config.replace(server_learning_rate=0.5, server_momentum=0.9), tmp_path, grid)
    first, second, third = (values(grid.models[i + 1]) - values(grid.models[i]) for i in range(3))
    np.testing.assert_allclose(first, 0.5 * aggregate, atol=1e-6)
    # What a round adds is the rate times the momentum, nine tenths of which are the last round's.
    single = LocalGrid(3)
    run_locally(config.replace(server_learning_rate=0.5), tmp_path, single)
    assert np.linalg.norm(third) > np.linalg.norm(values(single.models[3]) - values(single.models[2]))
    assert second @ first > 0


def test_server_rate_falls_by_rounds(tmp_path):
    config = BASE.replace(attack="none", defense="mean", momentum=0.0, weight_decay=0.0, num_rounds=3)
    plain, falling = LocalGrid(3), LocalGrid(3)
    run_locally(config, tmp_path, plain)
    run_locally(config.replace(server_lr_schedule="steps:1:0.5"), tmp_path, falling)
    np.testing.assert_array_equal(values(falling.models[1]), values(plain.models[1]))
    whole, half = (values(grid.models[2]) - values(grid.models[1]) for grid in (plain, falling))
    np.testing.assert_allclose(half, 0.5 * whole, atol=1e-7)


def test_momentum_that_is_reset_makes_each_round_the_first(tmp_path):
    def moves(config):
        grid = LocalGrid(3)
        run_locally(config.replace(attack="none", defense="mean", batch_size=0, num_rounds=3), tmp_path, grid)
        return [values(after) - values(before) for before, after in zip(grid.models, grid.models[1:], strict=False)]

    kept, reset = (moves(BASE.replace(reset_momentum=flag, learning_rate=0.01)) for flag in (False, True))
    np.testing.assert_array_equal(kept[0], reset[0])
    # At nearly one place the gradient stays: 0.1 g each round, or 0.1 g, then 0.19 g.
    assert np.linalg.norm(reset[1]) == pytest.approx(np.linalg.norm(reset[0]), rel=0.05)
    assert np.linalg.norm(kept[1]) == pytest.approx(1.9 * np.linalg.norm(kept[0]), rel=0.05)


def test_local_epochs_take_several_steps(tmp_path):
    result = run_locally(BASE.replace(local_epochs=1, batch_size=100, learning_rate=0.5), tmp_path, 5)
    assert (
        result.rounds[-1]["accuracy"] > run_locally(BASE.replace(learning_rate=0.5), tmp_path, 5).rounds[-1]["accuracy"]
    )


def test_every_training_round_has_the_seconds_of_its_aggregation(tmp_path):
    result = run_locally(BASE, tmp_path, 5)
    assert "aggregation-seconds" not in result.rounds[0]
    assert all(0 < line["aggregation-seconds"] < line["seconds"] for line in result.rounds[1:])
