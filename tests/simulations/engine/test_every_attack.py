"""Every attack, on Flower's Ray engine, against averaging and against a defence: one session for all runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from clients import attacks
from simulations.config.run_config import RunConfig
from simulations.engine.progress import watch
from simulations.engine.session import Session

NODES, MALICIOUS, ROUNDS = 7, 2, 5
DEFENCES = ["mean", "arc+nnm+trimmed-mean"]
# What some attacks need to be told.
ARGUMENTS = {"pool": "factors=[0.1,1,10]", "byzmean": "base=foe base.tau=3.0"}
FURTHER = {
    "foe that sees half": ("foe", "tau=5.0 sees=0.5"),
    "pool by names": ("pool", "pool=['krum','median'] factors=[0.1,10]"),
}
RUNS = {name: (name, ARGUMENTS.get(name, "")) for name in attacks.REGISTRY} | FURTHER


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacks")
    base = RunConfig(
        partition="iid", num_malicious=MALICIOUS, num_rounds=ROUNDS, evaluate_every=ROUNDS, model="softmax"
    )
    cells = {
        (run, defence): base.replace(
            attack=attack, attack_args=arguments, defense=defence, out_dir=str(folder / f"{index}-{defence}")
        )
        for index, (run, (attack, arguments)) in enumerate(RUNS.items())
        for defence in DEFENCES
    }
    with Session(list(cells.values()), NODES, folder / "session.log") as session:
        done = watch(session, [" ".join(cell) for cell in cells], Console(file=io.StringIO()))
    return dict(zip(cells, done, strict=True))


@pytest.mark.parametrize("defence", DEFENCES)
@pytest.mark.parametrize("run", RUNS)
def test_five_rounds_without_an_error(results, run, defence):
    result = results[run, defence]
    assert result.end is not None
    rounds = result.rounds[1:]
    assert len(rounds) == ROUNDS
    fault = run in ("garbage", "non-finite", "silent", "wrong-shape")
    for line in rounds:
        assert line["robust/num-accepted"] == (NODES - MALICIOUS if fault else NODES)
        assert line["robust/num-quarantined"] == (MALICIOUS if fault and run != "silent" else 0)
        assert not line["robust/skipped"]
    if defence != "mean":
        assert result.end["final_accuracy"] > 0.5


def test_what_breaks_averaging(results):
    for run in ("byzmean", "foe", "foe that sees half", "noise", "random", "random-epsilon", "tailored"):
        undefended, defended = (results[run, defence].end["final_accuracy"] for defence in DEFENCES)
        assert undefended < defended - 0.2
