"""What the adversary makes of a round, with real messages."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg

from clients import attacks
from flwr_robust import rules
from tests.clients.fake_nodes import attacked, by_node, failing, floats, instructions, model, trained, update


def test_malicious_replies_are_replaced_and_honest_ones_are_the_same_objects() -> None:
    grid, adversary = attacked(attacks.SignFlip(), [2, 5])
    replies = adversary.send_and_receive(instructions(range(1, 7)))
    given = by_node(grid.given)
    assert [reply.metadata.src_node_id for reply in replies] == list(range(1, 7))
    expected = -np.mean([update(given[node]) for node in (1, 3, 4, 6)], axis=0)
    for node, reply in by_node(replies).items():
        if node in (1, 3, 4, 6):
            assert reply is given[node]
        else:
            assert reply is not given[node]
            np.testing.assert_allclose(update(reply), expected, atol=1e-6)


def test_malicious_replies_keep_all_but_the_floats() -> None:
    grid, adversary = attacked(attacks.ALittleIsEnough(1.5), [2])
    forged = by_node(adversary.send_and_receive(instructions(range(1, 7))))[2]
    own = by_node(grid.given)[2]
    assert list(forged.content) == ["model", "metrics", "notes"]
    assert forged.content["metrics"] is own.content["metrics"]
    assert forged.content["notes"] is own.content["notes"]
    assert forged.metadata == own.metadata
    arrays, own_arrays = forged.content["model"], own.content["model"]
    assert isinstance(arrays, ArrayRecord)
    assert isinstance(own_arrays, ArrayRecord)
    assert list(arrays) == list(own_arrays) == ["w", "seen", "b"]
    for key in arrays:
        assert (arrays[key].shape, arrays[key].dtype) == (own_arrays[key].shape, own_arrays[key].dtype)
    assert arrays["seen"].numpy() == 5 + 2
    assert (floats(own.content) != floats(forged.content)).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(dtype: Any) -> None:
    arrays = model(dtype)
    grid, adversary = attacked(attacks.FallOfEmpires(3), [2])
    reply = by_node(adversary.send_and_receive(instructions(range(1, 7), arrays=arrays)))[2]
    assert {array.dtype for key, array in reply.content["model"].items() if key != "seen"} == {np.dtype(dtype).name}
    given = by_node(grid.given)
    expected = -2 * np.mean([update(given[node], arrays) for node in (1, 3, 4, 5, 6)], axis=0)
    tolerance = {np.float16: 5e-3, np.float32: 1e-6, np.float64: 1e-14}[dtype]
    np.testing.assert_allclose(update(reply, arrays), expected, atol=tolerance)


def test_only_the_sampled_malicious_count() -> None:
    seen = []

    class Spy(attacks.SignFlip):
        def craft(self, sight: attacks.Sight) -> Any:
            seen.append((sight.honest.shape, sight.f, list(sight.ids)))
            return super().craft(sight)

    grid, adversary = attacked(Spy(), [2, 5, 6])
    adversary.send_and_receive(instructions([1, 2, 4, 6]))
    assert seen == [((2, 16), 2, [1, 4])]
    replies = adversary.send_and_receive(instructions([1, 3, 4]))
    assert len(seen) == 1
    assert all(reply is given for reply, given in zip(replies, grid.given[-3:], strict=True))


def test_mimic_follows_node_ids() -> None:
    grid, adversary = attacked(attacks.Mimic(warmup=1), [1])

    def far(message: Message) -> Message:
        reply = trained(message)
        if message.metadata.dst_node_id == 4:
            w = reply.content["model"]["w"]  # type: ignore[index]
            reply.content["model"]["w"] = Array(w.numpy() + np.float32(5))  # type: ignore[index]
        return reply

    grid.answer = far
    replies = by_node(adversary.send_and_receive(instructions([1, 2, 3, 4])))
    np.testing.assert_allclose(update(replies[1]), update(replies[2]), atol=1e-6)
    replies = by_node(adversary.send_and_receive(instructions([6, 4, 1, 3])))
    np.testing.assert_allclose(update(replies[1]), update(replies[4]), atol=1e-6)


@pytest.mark.parametrize("malicious", [0, 0.0, [], [99]])
def test_nobody_malicious_is_transparent(malicious: Any) -> None:
    grid, adversary = attacked(attacks.SignFlip(), malicious)
    replies = adversary.send_and_receive(instructions(range(1, 7)))
    assert len(replies) == 6
    assert all(reply is given for reply, given in zip(replies, grid.given, strict=True))


def worst(honest: Any, rule: Any, f: int) -> Any:
    """Return the worst FallOfEmpires update on the default grid, in plain loops."""
    mean = honest.mean(axis=0)
    candidates = [(1 - tau) * mean for tau in np.arange(0, 10.25, 0.25)]
    outputs = [rule(np.vstack([honest, np.tile(b, (f, 1))])) for b in candidates]
    return candidates[int(np.argmax([np.linalg.norm(output - mean) for output in outputs]))]


class WithRule:
    rule = rules.chain(rules.NNM(f=2), rules.TrimmedMean(f=2))


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"strategy": WithRule()}, WithRule.rule),
        ({"strategy": WithRule(), "rule": rules.Median()}, rules.Median()),
        ({"strategy": FedAvg()}, lambda rows: rows.mean(axis=0)),
        ({}, lambda rows: rows.mean(axis=0)),
    ],
)
def test_optimal_attack_searches_against_the_servers_rule(options: Any, rule: Any) -> None:
    grid, adversary = attacked(attacks.FallOfEmpires("optimal"), [2, 5], **options)
    replies = by_node(adversary.send_and_receive(instructions(range(1, 7))))
    honest = np.stack([update(reply) for reply in grid.given if reply.metadata.src_node_id not in (2, 5)])
    np.testing.assert_allclose(update(replies[2]), worst(honest, rule, 2), atol=1e-5)


def test_rules_that_look_at_layers_are_told_them() -> None:
    told = []

    def rule(rows: Any, layers: Any = None) -> Any:
        told.append(layers)
        return rows.mean(axis=0)

    _, adversary = attacked(attacks.FallOfEmpires("optimal", factors=[1.0]), [2], rule=rule)
    adversary.send_and_receive(instructions([1, 2, 3]))
    assert told == [[("w", (3, 4)), ("b", (4,))]]


def test_flower_strategy_learns_from_the_attack() -> None:
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=6, min_available_nodes=6)
    grid, adversary = attacked(attacks.FallOfEmpires(4), [2, 5], failing(5))
    result = strategy.start(grid=adversary, initial_arrays=model(), num_rounds=1)
    given = by_node(grid.given)
    mean = np.mean([update(given[node]) for node in (1, 3, 4, 6)], axis=0)
    # num-examples is 10 a node id; node 5, which failed, borrows those of the first honest reply.
    lender = next(reply.metadata.src_node_id for reply in grid.given if reply.metadata.src_node_id not in (2, 5))
    honest = sum(node * update(given[node]) for node in (1, 3, 4, 6))
    expected = (honest - 3 * mean * (2 + lender)) / (1 + 3 + 4 + 6 + 2 + lender)
    np.testing.assert_allclose(update(Mock(content=RecordDict({"arrays": result.arrays}))), expected, atol=1e-6)
