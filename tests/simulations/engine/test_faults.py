"""Nodes at fault on Flower's Ray engine: runs finish and learn, and the reports name just those nodes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flwr_robust.report import read_reports
from simulations.config.run_config import RunConfig
from simulations.engine.progress import watch
from simulations.engine.session import Session
from simulations.run.fates import read_runs
from simulations.run.results import reports_path

NODES, MALICIOUS, ROUNDS = 17, 4, 10
DEFENCES = ["mean", "krum", "median", "lasa", "arc+nnm+geometric-median"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    base = RunConfig(
        partition="iid",
        attack="faults",
        num_malicious=MALICIOUS,
        num_rounds=ROUNDS,
        evaluate_every=ROUNDS,
        model="softmax",
        out_dir=str(folder),
    )
    configs = [base.replace(defense=defence, out_dir=str(folder / defence)) for defence in DEFENCES]
    with Session(configs, NODES, folder / "session.log") as session:
        done = watch(session, DEFENCES, Console(file=io.StringIO()))
    return dict(zip(DEFENCES, done, strict=True))


@pytest.mark.parametrize("defence", DEFENCES)
def test_a_run_with_broken_nodes_finishes_learns_and_names_them(results, defence):
    result = results[defence]
    assert result.end is not None
    assert result.end["final_accuracy"] > 0.7
    assert len(result.rounds) == ROUNDS + 1
    partition_of = result.partition_of
    reasons = {13: "NaN or infinity", 14: "is declared as", 15: "", 16: "no update"}
    reports = list(read_reports(reports_path(result.path)))
    assert len(reports) == ROUNDS
    for report in reports:
        assert report.skipped is None
        caught = {partition_of[node]: fate.reason for node, fate in report.nodes.items() if not fate.accepted}
        assert caught.keys() == reasons.keys()
        for partition, words in reasons.items():
            assert words in caught[partition]
    (fates,) = read_runs(result.path)
    assert {node.partition for node in fates.quarantined} == set(reasons)
    assert fates.rates.tpr == 1.0
