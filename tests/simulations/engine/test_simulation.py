"""Real simulations on Flower's Ray engine, in one session, which takes half a minute to start: runs that agree with a
bare loop, every attack in five rounds, and nodes at fault."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import pytest

from clients import attacks
from flwr_robust.record.fates import Fate, Rates
from flwr_robust.record.report import read_reports
from simulations.config.run_config import RunConfig
from simulations.engine.session import OpenSession
from simulations.run.fates import read_runs
from simulations.run.results import RunResult, last_line, read_result, reports_path
from tests.simulations.bare_loop import bare_run
from tests.simulations.local_grid import run_locally

CONNECTED = 17  # nodes of the session; a run may have fewer
PATIENCE = 600.0


class Engine:
    """A session that does runs when they are asked for."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.session = OpenSession(CONNECTED, folder / "session.log")
        self.failed = False

    def run(self, configs: Mapping[str, RunConfig]) -> dict[str, RunResult]:
        """Do some runs, each in a folder of its own, and return their results, also of those that fail."""
        paths = {}
        for name, config in configs.items():
            folder = self.folder / str(len(list(self.folder.iterdir())))
            folder.mkdir()
            paths[name] = self.session.order(config.replace(out_dir=str(folder)))
        deadline = time.monotonic() + PATIENCE
        while any(last_line(path).get("type") not in ("end", "error") for path in paths.values()):
            assert self.session.poll() is None, self.session.log_tail()
            assert time.monotonic() < deadline, self.session.log_tail()
            time.sleep(0.1)
        results = {name: read_result(path) for name, path in paths.items()}
        self.failed |= any(result.error for result in results.values())
        return results


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator[Engine]:
    made = Engine(tmp_path_factory.mktemp("engine"))
    with made.session:
        yield made
        # The end of a session in which a run has failed is that of a failure, whose cause its log's end names.
        made.session.finish()
        status = made.session._process.wait(60)
    assert status == (1 if made.failed else 0)
    log = made.session.log_path.read_text()
    assert ("Cause: " in log.splitlines()[-1]) == made.failed
    assert "DEPRECATED" not in log


# ---------------------------------------------------------------- runs

NODES = 5
BASE = RunConfig(
    partition="iid",
    num_nodes=NODES,
    num_malicious=1,
    attack="foe",
    attack_args="tau=10",
    num_rounds=40,
    evaluate_every=10,
)
BARE = BASE.replace(num_rounds=10, evaluate_every=1, defense="nnm+trimmed-mean", lr_schedule="inverse:4", batch_size=0)
# Among fewer nodes than there are, some are asked, and label noise is drawn.
DRAWN = BASE.replace(
    num_nodes=4, fraction_train=0.8, attack="label-flip", attack_args="probability=0.5", defense="mixtailor",
    num_rounds=4, evaluate_every=1, local_epochs=1, batch_size=100, measure="xi+kappa",
)  # fmt: skip


@pytest.fixture(scope="module")
def results(engine):
    return engine.run(
        {
            "undefended": BASE.replace(defense="mean"),
            "defended": BASE.replace(defense="arc+nnm+trimmed-mean"),
            "again": BASE.replace(defense="arc+nnm+trimmed-mean"),
            "other seed": BASE.replace(defense="arc+nnm+trimmed-mean", seed=2),
            "searching": BASE.replace(attack_args="", num_rounds=3, evaluate_every=2),
            "selecting": BASE.replace(defense="multi-krum", num_rounds=3),
            "label-flip": BASE.replace(attack="label-flip", attack_args="", defense="median", num_rounds=2),
            "bare": BARE,
            "drawn": DRAWN,
        }
    )


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


def test_a_run_that_fails_stops_no_other(engine, results, tmp_path):
    runs = {"mnist": BASE.replace(dataset="mnist", data_dir=str(tmp_path / "nowhere")), "digits": BARE}
    done = engine.run(runs)
    assert "nowhere/mnist/train.parquet does not exist" in done["mnist"].error
    assert accuracies(done["digits"]) == accuracies(results["bare"])


# ---------------------------------------------------------------- every attack, against averaging and a defence

DEFENCES = ["mean", "arc+nnm+trimmed-mean"]
# What some attacks need to be told.
ARGUMENTS = {
    "pool": "factors=[0.1,1,10]",
    "byzmean": "base=foe base.tau=3.0",
    "optimal": "base=tailored",
    "dba": "width=2 gap=1",
}
FURTHER = {
    "foe that sees half": ("foe", "tau=5.0 sees=0.5"),
    "pool by names": ("pool", "pool=['krum','median'] factors=[0.1,10]"),
    "badnets in turns": ("badnets", "delivery=alter-min"),
    "badnets, replaced": ("badnets", "delivery=model-replacement delivery.factor=2"),
    "badnets, neurotoxin that is tuned": ("badnets", "delivery=neurotoxin delivery.ratio=optimal"),
}
RUNS = {name: (name, ARGUMENTS.get(name, "")) for name in attacks.REGISTRY if name != "alter-min"} | FURTHER


@pytest.fixture(scope="module")
def attacked(engine):
    base = RunConfig(
        partition="iid",
        num_nodes=7,
        num_malicious=2,
        num_rounds=5,
        evaluate_every=5,
        model="softmax",
    )
    return engine.run(
        {
            (run, defence): base.replace(attack=attack, attack_args=arguments, defense=defence)
            for run, (attack, arguments) in RUNS.items()
            for defence in DEFENCES
        }
    )


@pytest.mark.parametrize("defence", DEFENCES)
@pytest.mark.parametrize("run", RUNS)
def test_five_rounds_without_an_error(attacked, run, defence):
    result = attacked[run, defence]
    assert result.end is not None
    rounds = result.rounds[1:]
    assert len(rounds) == 5
    fault = run in ("garbage", "non-finite", "silent", "wrong-shape")
    for line in rounds:
        assert line["robust/num-accepted"] == (5 if fault else 7)
        assert line["robust/num-quarantined"] == (2 if fault and run != "silent" else 0)
        assert not line["robust/skipped"]
    if defence != "mean":
        assert result.end["final_accuracy"] > 0.5


def test_what_breaks_averaging(attacked):
    for run in ("byzmean", "foe", "foe that sees half", "noise", "random", "random-epsilon", "tailored"):
        undefended, defended = (attacked[run, defence].end["final_accuracy"] for defence in DEFENCES)
        assert undefended < defended - 0.2


# ---------------------------------------------------------------- nodes at fault

FAULT_DEFENCES = ["mean", "krum", "median", "lasa", "arc+nnm+geometric-median"]


@pytest.fixture(scope="module")
def faulty(engine):
    base = RunConfig(
        partition="iid",
        attack="faults",
        num_malicious=4,
        num_rounds=10,
        evaluate_every=10,
        model="softmax",
    )
    return engine.run({defence: base.replace(defense=defence) for defence in FAULT_DEFENCES})


@pytest.mark.parametrize("defence", FAULT_DEFENCES)
def test_a_run_with_broken_nodes_finishes_learns_and_names_them(faulty, defence):
    result = faulty[defence]
    assert result.end is not None
    assert result.end["final_accuracy"] > 0.7
    assert len(result.rounds) == 11
    partition_of = result.partition_of
    reasons = {13: "not finite", 14: "has the shape", 15: "", 16: "no update"}
    reports = list(read_reports(reports_path(result.path)))
    assert len(reports) == 10
    for report in reports:
        assert report.skipped is None
        caught = {partition_of[node]: fate.reason for node, fate in report.nodes.items() if not fate.accepted}
        assert caught.keys() == reasons.keys()
        for partition, words in reasons.items():
            assert words in caught[partition]
    (fates,) = read_runs(result.path)
    assert {node.partition for node in fates.quarantined} == set(reasons)
    assert fates.rates.tpr == 1.0
