"""`flwr-robust audit`: apps that are not ours, unchanged, under attack on Flower's engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from typer.testing import CliRunner

from flwr_robust import rules
from simulations.audit.grids import Defence, Defended, mean_metrics
from simulations.cli import app
from tests.flower_messages import FakeGrid, values

ROOT = Path(__file__).parents[3]
NODES = [1, 2, 3, 4, 5, 6]


# ---------------------------------------------------------------- the defence at the grid


def answer(node, message):
    """A step of the node's own, from the model in whatever record it came; the last two lie."""
    ((name, sent),) = message.content.array_records.items()
    step = -100 if node > 4 else 1 + node / 10
    moved = ArrayRecord({key: Array(array.numpy() + step) for key, array in sent.items()})
    content = RecordDict({f"{name}.back": moved, "metrics": MetricRecord({"num-examples": node})})
    return Message(content, reply_to=message)


def asked(records):
    return [
        Message(RecordDict({"model": record, "config": ConfigRecord()}), dst_node_id=node, message_type="train")
        for node, record in zip(NODES, records, strict=True)
    ]


@pytest.mark.parametrize("declared", [True, False])
def test_every_reply_becomes_what_the_rule_makes_of_them(declared):
    """Also of arrays that declare nothing, as Flower makes them of the older interface's parameters."""
    start = np.arange(6.0).reshape(3, 2)
    one = Array(start) if declared else Array(dtype="", shape=(), stype="numpy.ndarray", data=Array(start).data)
    rule = rules.chain(rules.NNM(2), rules.TrimmedMean(2))
    grid = Defended(FakeGrid(NODES, answer), Defence(rule, 2))
    if not declared:
        grid.grid.answer = lambda node, message: answer(node, declare(message))
    replies = list(grid.send_and_receive(asked([ArrayRecord({"w": one}) for _ in NODES])))
    steps = np.array([[-100.0 if node > 4 else 1 + node / 10] * 6 for node in NODES])
    expected = start.ravel() + rule(steps)
    assert [reply.metadata.src_node_id for reply in replies] == NODES
    for reply in replies:
        assert np.allclose(values(reply.content["model.back"])["w"].ravel(), expected)
        assert reply.content["metrics"]["num-examples"] == reply.metadata.src_node_id


def declare(message):
    """The message, with arrays that say what they are."""
    ((name, sent),) = message.content.array_records.items()
    plain = ArrayRecord({key: Array(array.numpy()) for key, array in sent.items()})
    made = Message(RecordDict({name: plain}), dst_node_id=message.metadata.dst_node_id, message_type="train")
    made.metadata.__dict__.update(message.metadata.__dict__)
    return made


def test_metrics_are_weighted_by_examples_unless_a_node_reports_none():
    def of(*numbers):
        return [RecordDict({"m": MetricRecord(one)}) for one in numbers]

    weighted = of({"num-examples": 1, "accuracy": 0.0}, {"num-examples": 3, "accuracy": 1.0})
    assert mean_metrics(weighted) == {"accuracy": 0.75}
    assert mean_metrics(of({"num-examples": 0, "accuracy": 0.0}, {"accuracy": 1.0})) == {"accuracy": 0.5}


# ---------------------------------------------------------------- whole runs


def audit(project, out, *options):
    command = [sys.executable, "-m", "simulations.cli", "audit", str(project), "--malicious", "2", "--nodes", "6"]
    return subprocess.run(
        [*command, "--rounds", "2", "--out", str(out), *options],
        cwd=out.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("example", ["sklearn", "legacy-numpy-client"])
def test_an_app_is_audited_unchanged_and_goes_on_where_it_was(tmp_path, example):
    project = shutil.copytree(ROOT / "examples" / example, tmp_path / "app")
    before = files_of(project)
    options = ("--attacks", "foe:tau=20,label-flip", "--defenses", "none,median", "--metric", "accuracy")
    done = audit(project, tmp_path / "audit", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert files_of(project) == before
    lines = [json.loads(line) for line in (tmp_path / "audit" / "results.jsonl").read_text().splitlines()]
    found = {(line["attack"], line["defense"]): line["metrics"]["accuracy"] for line in lines}
    attack = next(name for name, _ in found if name.startswith("foe"))
    assert found.keys() == {(a, d) for a in ("none", attack) for d in ("none", "median")}
    # Averaging is driven off, and the median stands; without attack both learn.
    assert found[attack, "none"] < 0.5 < 0.7 < found[attack, "median"]
    assert min(found["none", "none"], found["none", "median"]) > 0.7
    assert "label-flip" in done.stdout + done.stderr  # left out: the app has no line for poisoned labels
    assert "median has the best worst case" in " ".join(done.stdout.split())
    page = (tmp_path / "audit" / "index.html").read_text()
    assert "median" in page
    assert not re.search(r"<script|<link|src=\"(?!data:)|href=\"http", page)  # it loads nothing
    again = audit(project, tmp_path / "audit", *options)
    assert "4 of 4 runs are done already" in again.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--attacks", "sign-flop"], "did you mean 'sign-flip'"),
        (["--defenses", "medain"], "did you mean 'median'"),
        (["--malicious", "20"], "20"),
    ],
)
def test_wrong_values_end_at_once(options, message):
    done = CliRunner().invoke(app, ["audit", str(ROOT / "examples" / "sklearn"), *options])
    assert done.exit_code != 0
    assert message in " ".join(done.output.split())


def test_a_folder_without_a_project_is_named(tmp_path):
    done = CliRunner().invoke(app, ["audit", str(tmp_path)])
    assert done.exit_code != 0
    assert "pyproject.toml" in done.output
