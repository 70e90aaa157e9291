"""Backdoors without a trigger."""

from __future__ import annotations

import numpy as np
import pytest

from clients import attacks

EDGE = np.array([[10.0, 11.0], [20.0, 21.0]])


def test_edge_inputs_come_in_their_order_and_again():
    inputs, labels = np.zeros((5, 2)), np.array([0, 1, 2, 3, 4])
    attack = attacks.EdgeCase(2, EDGE, fraction=0.6, seed=3)
    chosen = attack.choose(labels)
    poisoned, false = attack.poison(inputs, labels)
    np.testing.assert_array_equal(poisoned[chosen], EDGE[[0, 1, 0]])
    np.testing.assert_array_equal(false, np.where(chosen, 2, labels))


def test_edge_takes_tensors_and_is_copied():
    torch = pytest.importorskip("torch")
    edge = torch.tensor(EDGE)
    attack = attacks.EdgeCase(0, edge, fraction=1.0)
    edge.zero_()
    np.testing.assert_array_equal(attack.poison(np.zeros((1, 2)), np.array([1]))[0], EDGE[:1])


@pytest.mark.parametrize("edge", [np.empty((0, 2)), np.float64(3.0), np.array(["a"]), np.array([[np.nan]])])
def test_wrong_edge(edge):
    with pytest.raises(ValueError, match="EdgeCase was given edge inputs"):
        attacks.EdgeCase(0, edge)


def test_edge_of_another_shape():
    with pytest.raises(ValueError, match=r"edge inputs of shape \(2,\) for inputs of shape \(3,\)"):
        attacks.EdgeCase(0, EDGE, fraction=1.0).poison(np.zeros((2, 3)), np.array([0, 1]))


@pytest.mark.parametrize("attack", [attacks.EdgeCase(0, EDGE), attacks.SemanticLabelSwap(0, lambda x, y: y > 0)])
def test_there_is_no_trigger(attack):
    inputs = np.arange(4.0).reshape(2, 2)
    np.testing.assert_array_equal(attack.trigger(inputs), inputs)


def test_semantic_swaps_labels_of_what_meets_the_condition():
    inputs = np.array([[0.0], [1.0], [2.0], [3.0]])
    labels = np.array([5, 5, 0, 5])
    seen = []

    def condition(given, true):
        seen.append((given, true))
        return given[:, 0] >= 1

    poisoned, false = attacks.SemanticLabelSwap(0, condition).poison(inputs, labels)
    assert false.tolist() == [5, 0, 0, 0]
    np.testing.assert_array_equal(poisoned, inputs)
    assert seen[0][0] is inputs


@pytest.mark.parametrize("answer", [[1, 0], [True], [[True, False]]])
def test_a_condition_that_gives_no_mask(answer):
    with pytest.raises(ValueError, match="it must give one bool a sample"):
        attacks.SemanticLabelSwap(0, lambda inputs, labels: answer).choose(np.array([1, 2]), np.zeros((2, 1)))


def test_semantic_needs_a_condition_and_inputs():
    with pytest.raises(ValueError, match="give a callable"):
        attacks.SemanticLabelSwap(0, "green")
    with pytest.raises(ValueError, match=r"give them: choose\(labels, inputs\)"):
        attacks.SemanticLabelSwap(0, lambda inputs, labels: labels > 0).choose(np.array([1]))
