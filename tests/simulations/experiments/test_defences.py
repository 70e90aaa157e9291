"""The experiment of every defence under every attack holds each of them, whatever the package gains."""

from __future__ import annotations

from clients import attacks
from flwr_robust import rules
from simulations.experiments.experiment import load_experiment
from tests.simulations.experiments.files import cells_of

# What is not an attack on digits of its own, and why.
LEFT_OUT = {
    "alter-min": "a delivery of a backdoor, which trains anew",
    "edge-case": "needs samples of another data set",
    "model-replacement": "a delivery of a backdoor",
    "neurotoxin": "a delivery of a backdoor",
    "optimal": "searches the factor of another attack",
    "pgd": "a delivery of a backdoor",
    "pool": "needs the pool that it attacks",
    "random-epsilon": "Tailored, with a drawn factor",
    "semantic-label-swap": "needs a condition, which is code",
}
# Of these there is one name for all: "faults".
FAULTS = {"garbage", "non-finite", "scaled", "silent", "wrong-shape"}


def test_every_rule_and_every_attack():
    configs = [cell.config for cell in cells_of(load_experiment("defences"))]
    stages = {part for config in configs for part in config.defense.split("+")}
    assert set(rules.REGISTRY) - stages == {"bucketing", "static-clipping"}
    named = {attacks.ALIASES.get(config.attack, config.attack) for config in configs}
    assert {"none", "faults"} < named
    assert set(attacks.REGISTRY) - named == LEFT_OUT.keys() | FAULTS
    assert {config.seed for config in configs} == {1, 2, 3}
