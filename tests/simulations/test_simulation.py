"""Real simulations on Flower's Ray engine: one session for all that needs one."""

import io
import json
import os
from dataclasses import replace

import pytest
from rich.console import Console

from simulations.config import RunConfig
from simulations.fates import Fate, Rates, read_runs
from simulations.progress import SessionError, watch
from simulations.results import read_result
from simulations.session import Session

NODES = 5
BASE = RunConfig(partition="iid", num_malicious=1, attack="foe", attack_args="tau=10", num_rounds=40, evaluate_every=10)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    configs = {
        "undefended": replace(BASE, defense="mean"),
        "defended": replace(BASE, defense="arc+nnm+trimmed-mean"),
        "again": replace(BASE, defense="arc+nnm+trimmed-mean", out_dir="again"),
        "other seed": replace(BASE, defense="arc+nnm+trimmed-mean", seed=2),
        "searching": replace(BASE, attack_args="", num_rounds=3, evaluate_every=2),
        "selecting": replace(BASE, defense="multi-krum", num_rounds=3),
        "label-flip": replace(BASE, attack="label-flip", attack_args="", defense="median", num_rounds=2),
    }
    configs = {name: replace(config, out_dir=str(folder / config.out_dir)) for name, config in configs.items()}
    with Session(list(configs.values()), NODES, folder / "session.log") as session:
        console = Console(file=io.StringIO())
        done = watch(session, list(configs), console)
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
            assert line["robust/num-accepted"] == NODES
            assert line["train-loss"] > 0


def test_every_node_has_a_fate_in_every_round_and_the_malicious_one_is_known(results):
    for result in results.values():
        (run,) = read_runs(result.path)
        assert run.rounds == tuple(line["round"] for line in result.rounds[1:])
        assert [(node.partition, node.malicious) for node in run.nodes] == [(p, p == NODES - 1) for p in range(NODES)]
        assert (run.fates != Fate.ABSENT).all()
        assert run.quarantined == ()
    (selecting,) = read_runs(results["selecting"].path)
    assert selecting.rates == Rates(caught=1.0, lost=0.0)


def test_label_flip_reaches_the_nodes(results):
    assert results["label-flip"].end is not None


def test_a_session_that_fails_shows_its_log(tmp_path):
    unreadable = replace(BASE, out_dir=str(tmp_path), dataset="mnist", data_dir=str(tmp_path / "nowhere"))
    with (
        pytest.raises(SessionError, match=r"nowhere/mnist/train.parquet does not exist"),
        Session([unreadable], NODES, tmp_path / "session.log") as session,
    ):
        watch(session, ["mnist"], Console(file=io.StringIO()))


def test_a_session_that_is_left_early_leaves_no_process(tmp_path):
    with Session([replace(BASE, out_dir=str(tmp_path))], NODES, tmp_path / "session.log") as session:
        group = session._process.pid
        os.killpg(group, 0)
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    assert session.poll() is not None
    assert read_result(session.result_paths[0]).end is None


def test_results_of_an_earlier_run_are_not_taken_for_progress(tmp_path):
    config = replace(BASE, out_dir=str(tmp_path))
    session = Session([config], NODES, tmp_path / "session.log")
    session.result_paths[0].write_text(json.dumps({"type": "end", "final_accuracy": 1.0}) + "\n")
    with session:
        assert read_result(session.result_paths[0]).end is None
