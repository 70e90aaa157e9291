"""Save after each round, be killed, resume: the same bits as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from importlib import import_module

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, RecordDict
from flwr.serverapp import strategy as flower

from flwr_robust import ARC, NNM, Bucketing, CenteredClipping, Mean, MixTailor, MultiKrum, SparseFed, rules
from flwr_robust.engine import cpu
from flwr_robust.record.report import read_reports
from tests.deployment.recipe import ROOT
from tests.flower_messages import RunGrid, record, reply, values

APP = ROOT / "examples" / "deployment"
NODES, LIAR = range(2, 9), 8


class InOrder(RunGrid):
    """Nodes that answer in the order of their ids, whatever order Flower drew them in."""

    def send_and_receive(self, messages, *, timeout=None):
        return super().send_and_receive(sorted(messages, key=lambda message: message.metadata.dst_node_id))


@contextmanager
def app_on_path():
    """Import the example's modules as Flower does, from the folder of the app."""
    sys.path.insert(0, str(APP))
    try:
        yield lambda name: import_module(f"digits.{name}")
    finally:
        sys.path.remove(str(APP))


def play(out, die_in=None, **changed):
    """Run the app with nodes in this process, of which one lies; it is killed in a round if that is asked for."""
    config = tomllib.loads((APP / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    config |= {"out-dir": str(out), "num-rounds": 6, "last-stage": "multi-krum"} | changed
    trained = 0

    with app_on_path() as module:
        server, client = module("server_app").app, module("client_app").app

        def answer(node, message):
            nonlocal trained
            trained += node == NODES[-1]
            if trained == die_in:
                os.kill(os.getpid(), signal.SIGKILL)
            own = {"partition-id": node - 2, "num-partitions": len(NODES)}
            if node == LIAR:
                own["attack"] = "sign-flip"
            return client(message, Context(1, node, own, RecordDict(), config))

        server(InOrder(list(NODES), answer), Context(1, 1, {}, RecordDict(), config))
        return module("checkpoint").Checkpoint.load(out / "checkpoint.npz")


def same_bits(one, other):
    assert list(one) == list(other)
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert one[name].numpy().tobytes() == other[name].numpy().tobytes()


@pytest.mark.parametrize("die_in", [1, 4])
def test_the_app_goes_on_where_it_was_killed(die_in, tmp_path):
    unbroken = play(tmp_path / "unbroken")
    # Blocks as narrow as in the tests: sums of other blocks end in other digits.
    narrow = f"from flwr_robust.engine import cpu; cpu.GRANTED = {cpu.GRANTED}"
    run = f"from pathlib import Path; from {__name__} import play; play(Path({str(tmp_path / 'broken')!r}), {die_in})"
    code = f"{narrow}; {run}"
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with app_on_path() as module:
        assert module("checkpoint").Checkpoint.load(tmp_path / "broken" / "checkpoint.npz").rounds == die_in - 1
    resumed = play(tmp_path / "broken", resume=True)
    assert resumed.rounds == unbroken.rounds == 6
    same_bits(resumed.model, unbroken.model)
    same_bits(resumed.state, unbroken.state)
    with np.load(tmp_path / "broken" / "model.npz") as model, np.load(tmp_path / "unbroken" / "model.npz") as expected:
        assert {name: model[name].tobytes() for name in model} == {name: expected[name].tobytes() for name in expected}
    runs = (read_reports(tmp_path / run / "report.jsonl") for run in ("broken", "unbroken"))
    one, other = ([report.nodes for report in reports] for reports in runs)
    assert one == other


def test_without_a_folder_there_is_nothing_to_resume():
    with pytest.raises(ValueError, match="resume = true, but out-dir is empty"):
        play("", resume=True)


# ---------------------------------------------------------------- whatever a strategy keeps

STATEFUL = {
    "momentum": lambda: Mean(server_momentum=0.9, server_learning_rate=0.3),
    "centre, buckets": lambda: Bucketing(CenteredClipping(iterations=2), s=2, seed=3),
    "sparsified": lambda: ARC(NNM(SparseFed(num_malicious_nodes=1))),
    "drawn": lambda: MixTailor(num_malicious_nodes=1, seed=5),
    "drawn of a pool": lambda: MixTailor(pool=[rules.CenteredClipping(), rules.DnC(1, seed=1)], seed=5),
    "excluded": lambda: MultiKrum(num_malicious_nodes=1, suspicion=0.4, exclude_after=0.7, forgive_after=2),
    "in front of another's": lambda: Bucketing(flower.FedAvg(), s=2, seed=1, suspicion=0.5),
}


def fingerprint(strategy, model):
    return [(name, array.numpy().tobytes()) for kept in (model, strategy.state()) for name, array in kept.items()]


def some_rounds(strategy, model, numbers):
    for number in numbers:
        rng, sent = np.random.default_rng(number), values(model)["w"]
        grid = RunGrid(list(NODES), None)
        asked = {m.metadata.dst_node_id for m in strategy.configure_train(number, model, ConfigRecord(), grid)}
        step = {node: rng.standard_normal(50).astype(np.float32) * (100 if node == LIAR else 1) for node in NODES}
        model, _ = strategy.aggregate_train(number, [reply(node, {"w": sent + step[node]}) for node in sorted(asked)])
    return model


@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL)
def test_what_any_strategy_keeps_comes_back(make, tmp_path):
    start, unbroken, broken, resumed = record({"w": np.zeros(50, np.float32)}), make(), make(), make()
    expected = some_rounds(unbroken, start, range(9))
    middle = some_rounds(broken, start, range(5))
    with app_on_path() as module:
        module("checkpoint").Checkpoint(5, middle, broken.state()).save(tmp_path / "checkpoint.npz")
        saved = module("checkpoint").Checkpoint.load(tmp_path / "checkpoint.npz")
    resumed.load_state(saved.state)
    same_bits(some_rounds(resumed, saved.model, range(5, 9)), expected)
    same_bits(resumed.state(), unbroken.state())
    # Without the state it goes another way.
    forgetful = make()
    other = some_rounds(forgetful, saved.model, range(5, 9))
    assert fingerprint(forgetful, other) != fingerprint(unbroken, expected)
