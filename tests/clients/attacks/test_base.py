"""What every attack has in common: its call, kinds of arrays, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from clients import attacks
from tests.clients.attacks.data import draw


@pytest.mark.parametrize("attack", [attacks.SignFlip(), attacks.ALittleIsEnough(1.0), attacks.Mimic(1)])
@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16"])
def test_torch_tensors(attack, name):
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, name)
    attack.reset()
    honest = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=dtype)
    malicious = attack(honest, 2)
    attack.reset()
    assert isinstance(malicious, torch.Tensor)
    assert malicious.dtype == dtype
    expected = attack(np.array([[1.0, 2.0], [3.0, 4.0]]), 2)
    np.testing.assert_array_equal(malicious.to(torch.float64).numpy(), expected)


def test_own_attacks_keep_to_the_dtype_too():
    class Double(attacks.Attack):
        knows = "honest"

        def craft(self, sight):
            return np.tile(2 * sight.honest.astype(np.float64).mean(axis=0), (sight.f, 1))

    malicious = Double()(draw(3, 4, np.float32), 2)
    assert malicious.dtype == np.float32
    assert malicious.shape == (2, 4)


def test_no_malicious_node_makes_no_row():
    assert attacks.SignFlip()(draw(3, 4), 0).shape == (0, 4)


@pytest.mark.parametrize("honest", [np.ones(3), np.ones((2, 3), dtype=np.int64), [["a"]], np.ones((1, 1, 1))])
def test_wrong_updates(honest):
    with pytest.raises(ValueError, match=r"give a \(rows, columns\) matrix"):
        attacks.SignFlip()(honest, 1)


@pytest.mark.parametrize("f", [-1, 1.5, True, "2"])
def test_wrong_f(f):
    with pytest.raises(ValueError, match=r"SignFlip was given f = .*; give a whole number of 0 or more"):
        attacks.SignFlip()(draw(3, 4), f)


@pytest.mark.parametrize("ids", [[1, 2], [1, 1, 2], [1, 2, 3, 4]])
def test_wrong_ids(ids):
    with pytest.raises(ValueError, match="one id a row"):
        attacks.SignFlip()(draw(3, 4), 1, ids=ids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unseen": -1}, "unseen = -1; give a whole number of 0 or more"),
        ({"own": np.ones((1, 8))}, r"own updates of shape \(1, 8\); give \(f, d\) = \(2, 8\)"),
        ({"own": np.ones((2, 3))}, r"own updates of shape \(2, 3\)"),
    ],
)
def test_wrong_sight(arguments, message):
    with pytest.raises(ValueError, match=message):
        attacks.SignFlip()(draw(3, 8), 2, **arguments)


def test_nothing_to_go_by():
    with pytest.raises(ValueError, match=r"no honest updates; give at least one row, or own="):
        attacks.SignFlip()(np.empty((0, 8)), 2, unseen=3)


def test_knowledge():
    assert attacks.SignFlip().knows == "honest"
    assert attacks.ALittleIsEnough("auto").knows == "honest"
    assert attacks.ALittleIsEnough("optimal").knows == "rule"
    assert attacks.FallOfEmpires("optimal").knows == "rule"
    assert attacks.FallOfEmpires.knows == "honest"


def test_parameters_are_frozen():
    with pytest.raises(AttributeError):
        attacks.FallOfEmpires(1.0).tau = 3.0


def test_the_state_of_another_attack_is_refused():
    with pytest.raises(ValueError, match="load that of the same attack"):
        attacks.Mimic().load_state({"centre": np.zeros(3)})
    with pytest.raises(ValueError, match="keeps no state"):
        attacks.SignFlip().load_state({"centre": np.zeros(3)})
