"""Real simulations on Flower's Ray engine: one session for all that needs one."""

import io
import json
import os

import pytest
from rich.console import Console

from flwr_robust.record.fates import Fate, Rates
from simulations.config.run_config import RunConfig
from simulations.engine.progress import SessionError, watch
from simulations.engine.session import Session
from simulations.run.fates import read_runs
from simulations.run.results import read_result
from tests.simulations.bare_loop import bare_run
from tests.simulations.local_grid import run_locally

NODES = 5
BASE = RunConfig(partition="iid", num_malicious=1, attack="foe", attack_args="tau=10", num_rounds=40, evaluate_every=10)
BARE = BASE.replace(num_rounds=10, evaluate_every=1, defense="nnm+trimmed-mean", lr_schedule="inverse:4", batch_size=0)
# Among fewer nodes than there are, some are asked, and label noise is drawn.
DRAWN = BASE.replace(
    num_nodes=4, fraction_train=0.8, attack="label-flip", attack_args="probability=0.5", defense="mixtailor",
    num_rounds=4, evaluate_every=1, local_epochs=1, batch_size=100, measure="xi+kappa",
)  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    configs = {
        "undefended": BASE.replace(defense="mean"),
        "defended": BASE.replace(defense="arc+nnm+trimmed-mean"),
        "again": BASE.replace(defense="arc+nnm+trimmed-mean", out_dir="again"),
        "other seed": BASE.replace(defense="arc+nnm+trimmed-mean", seed=2),
        "searching": BASE.replace(attack_args="", num_rounds=3, evaluate_every=2),
        "selecting": BASE.replace(defense="multi-krum", num_rounds=3),
        "label-flip": BASE.replace(attack="label-flip", attack_args="", defense="median", num_rounds=2),
        "bare": BARE,
        "drawn": DRAWN,
    }
    configs = {name: config.replace(out_dir=str(folder / config.out_dir)) for name, config in configs.items()}
    with Session(list(configs.values()), NODES, folder / "session.log") as session:
        console = Console(file=io.StringIO())
        done = watch(session, list(configs), console)
    assert "DEPRECATED" not in (folder / "session.log").read_text()
    assert console.file.getvalue().count("%") == len(configs)  # a line a run where there is no terminal
    return dict(zip(configs, done, strict=True))


def accuracies(result):
    return [(line["accuracy"], line["loss"]) for line in result.rounds]


def test_attack_breaks_averaging_and_the_defense_learns(results):
    assert results["undefended"].end["final_accuracy"] < 0.2
    assert results["defended"].end["final_accuracy"] > 0.8


def test_two_runs_with_one_seed_agree_to_the_last_bit(results):
    assert results["defended"].path != results["again"].path
    assert accuracies(results["defended"]) == accuracies(results["again"])
    assert accuracies(results["defended"]) != accuracies(results["other seed"])


def test_evaluation_comes_every_so_many_rounds_and_at_the_end(results):
    assert results["defended"].curve[0] == [0, 10, 20, 30, 40]
    assert results["searching"].curve[0] == [0, 2, 3]
    assert [line["round"] for line in results["defended"].rounds] == list(range(41))


def test_every_training_round_has_the_strategys_metrics(results):
    for result in results.values():
        for line in result.rounds[1:]:
            assert line["robust/num-accepted"] == (3 if result is results["drawn"] else NODES)
            assert line["train-loss"] > 0


def test_every_node_has_a_fate_in_every_round_and_the_malicious_one_is_known(results):
    for result in results.values():
        (run,) = read_runs(result.path)
        assert run.rounds == tuple(line["round"] for line in result.rounds[1:])
        nodes = result.num_nodes
        assert [(node.partition, node.malicious) for node in run.nodes] == [(p, p == nodes - 1) for p in range(nodes)]
        assert (run.fates != Fate.NOT_SELECTED).sum() == (3 * 4 if nodes == 4 else NODES * len(run.rounds))
        assert run.quarantined == ()
    (selecting,) = read_runs(results["selecting"].path)
    assert selecting.rates == Rates(tpr=1.0, fpr=0.0)


def test_the_engine_agrees_with_a_bare_loop_round_by_round(results):
    expected = bare_run(BARE, NODES)
    found = accuracies(results["bare"])
    assert [accuracy for accuracy, _ in found] == pytest.approx([line.accuracy for line in expected], abs=1e-12)
    assert [loss for _, loss in found] == pytest.approx([line.loss for line in expected], rel=2e-6)
    assert found[-1][1] < found[0][1] - 0.1


def test_the_engine_does_what_the_nodes_do_in_this_process(results, tmp_path):
    local, measured = run_locally(DRAWN, tmp_path, NODES), ("measure/xi", "measure/A", "measure/kappa")
    assert results["drawn"].num_nodes == 4
    for one, other in zip(results["drawn"].rounds, local.rounds, strict=True):
        assert one["accuracy"] == pytest.approx(other["accuracy"], abs=1e-12)
        for name in ("loss", *measured):
            # Absent where a round does not measure it.
            assert (name in one) == (name in other)
            assert one.get(name) == (None if other.get(name) is None else pytest.approx(other[name], rel=1e-4))


def test_label_flip_reaches_the_nodes(results):
    assert results["label-flip"].end is not None


def test_a_session_that_fails_shows_its_log(tmp_path):
    unreadable = BASE.replace(out_dir=str(tmp_path), dataset="mnist", data_dir=str(tmp_path / "nowhere"))
    with (
        pytest.raises(SessionError, match=r"nowhere/mnist/train.parquet does not exist"),
        Session([unreadable], NODES, tmp_path / "session.log") as session,
    ):
        watch(session, ["mnist"], Console(file=io.StringIO()))


def test_a_session_that_is_left_early_leaves_no_process(tmp_path):
    with Session([BASE.replace(out_dir=str(tmp_path))], NODES, tmp_path / "session.log") as session:
        group = session._process.pid
        os.killpg(group, 0)
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    assert session.poll() is not None
    assert read_result(session.result_paths[0]).end is None


def test_results_of_an_earlier_run_are_not_taken_for_progress(tmp_path):
    config = BASE.replace(out_dir=str(tmp_path))
    session = Session([config], NODES, tmp_path / "session.log")
    session.result_paths[0].write_text(json.dumps({"type": "end", "final_accuracy": 1.0}) + "\n")
    with session:
        assert read_result(session.result_paths[0]).end is None
