"""The adversary as a grid: what it replaces, what it leaves alone, pushing and pulling."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest
from flwr.app import Array, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from clients import Adversary, attacks
from flwr_robust import Median
from tests.clients.fake_nodes import Spy, attacked, by_node, failing, floats, instructions, model, trained, update


def test_malicious_replies_are_replaced_and_honest_ones_are_the_same_objects():
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


def test_malicious_replies_keep_all_but_the_floats():
    grid, adversary = attacked(attacks.ALittleIsEnough(1.5), [2])
    forged = by_node(adversary.send_and_receive(instructions(range(1, 7))))[2]
    own = by_node(grid.given)[2]
    assert list(forged.content) == ["model", "metrics", "notes"]
    assert forged.content["metrics"] is own.content["metrics"]
    assert forged.content["notes"] is own.content["notes"]
    assert forged.metadata == own.metadata
    arrays, own_arrays = forged.content["model"], own.content["model"]
    assert list(arrays) == list(own_arrays) == ["w", "seen", "b"]
    for key in arrays:
        assert (arrays[key].shape, arrays[key].dtype) == (own_arrays[key].shape, own_arrays[key].dtype)
    assert arrays["seen"].numpy() == 5 + 2
    assert (floats(own.content) != floats(forged.content)).all()


def test_only_the_sampled_malicious_count():
    spy = Spy()
    grid, adversary = attacked(spy, [2, 5, 6])
    adversary.send_and_receive(instructions([1, 2, 4, 6]))
    (sight,) = spy.shown
    assert (sight.honest.shape, sight.f, list(sight.ids)) == ((2, 16), 2, [1, 4])
    replies = adversary.send_and_receive(instructions([1, 3, 4]))
    assert len(spy.shown) == 1
    assert all(reply is given for reply, given in zip(replies, grid.given[-3:], strict=True))


def test_mimic_follows_node_ids():
    grid, adversary = attacked(attacks.Mimic(warmup=1), [1])

    def far(message):
        reply = trained(message)
        if message.metadata.dst_node_id == 4:
            w = reply.content["model"]["w"]
            reply.content["model"]["w"] = Array(w.numpy() + np.float32(5))
        return reply

    grid.answer = far
    replies = by_node(adversary.send_and_receive(instructions([1, 2, 3, 4])))
    np.testing.assert_allclose(update(replies[1]), update(replies[2]), atol=1e-6)
    replies = by_node(adversary.send_and_receive(instructions([6, 4, 1, 3])))
    np.testing.assert_allclose(update(replies[1]), update(replies[4]), atol=1e-6)


@pytest.mark.parametrize("malicious", [0, 0.0, [], [99]])
def test_nobody_malicious_changes_nothing(malicious):
    for attack in (attacks.SignFlip(), attacks.Silent(), attacks.Garbage(), attacks.Random()):
        grid, adversary = attacked(attack, malicious, sees=0.5, redraw=not isinstance(malicious, list))
        replies = adversary.send_and_receive(instructions(range(1, 7)))
        assert all(reply is given for reply, given in zip(replies, grid.given, strict=True))


@pytest.mark.parametrize("kind", [MessageType.EVALUATE, MessageType.QUERY, "query.partition"])
def test_other_messages_are_not_touched(kind):
    grid, adversary = attacked(attacks.SignFlip(), 3, seed=1)
    replies = adversary.send_and_receive(instructions(range(1, 7), kind))
    assert all(reply is given for reply, given in zip(replies, grid.given, strict=True))


def test_train_actions_are_train_messages():
    grid, adversary = attacked(attacks.SignFlip(), [1])
    assert adversary.send_and_receive(instructions([1, 2], "train.warm"))[0] is not grid.given[0]


@pytest.mark.parametrize("name", ["non-finite", "scaled", "wrong-shape", "garbage", "silent"])
def test_adversary_and_strategy(name):
    """The strategy quarantines what the adversary makes of two nodes, and reports just them."""
    grid, adversary = attacked(attacks.from_spec(name), [2, 5])
    replies = adversary.send_and_receive(instructions(range(1, 7)))
    given = by_node(grid.given)
    for reply in replies:
        if reply.metadata.src_node_id not in (2, 5):
            assert reply is given[reply.metadata.src_node_id]
    strategy = Median(num_malicious_nodes=2)
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    fates = strategy.reports[-1].nodes
    caught = {node for node, fate in fates.items() if fate.status == "quarantined"}
    if name == "silent":
        assert set(fates) == {1, 3, 4, 6}
    elif name == "scaled":
        assert not caught
        np.testing.assert_allclose(update(by_node(replies)[2]), 100 * update(given[2]), rtol=1e-4, atol=1e-4)
    else:
        assert caught == {2, 5}
        honest = [floats(given[node].content) for node in (1, 3, 4, 6)]
        expected = np.median(honest, axis=0)
        np.testing.assert_allclose(floats(RecordDict({"arrays": arrays})), expected, atol=1e-6)


def test_flower_strategy_learns_from_the_attack():
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


def test_data_attacks_and_strangers_are_refused():
    with pytest.raises(ValueError, match=r"clients\.mods or clients\.PoisonedDataset"):
        attacked(attacks.LabelFlip(10), 1)
    with pytest.raises(ValueError, match=r"give an object of clients\.attacks"):
        attacked(lambda honest, f: honest, 1)
    with pytest.raises(ValueError, match="given rule"):
        attacked(attacks.SignFlip(), 1, rule=3)


def test_the_rest_goes_to_the_grid():
    _, adversary = attacked(attacks.SignFlip(), 1)
    run = object()
    adversary.set_run(run)
    assert adversary.run is run
    assert list(adversary.get_node_ids()) == list(range(1, 7))
    assert [node.node_id for node in adversary.get_nodes()] == list(range(1, 7))
    message = adversary.create_message(RecordDict(), "train", 4, "7", 60.0)
    assert (message.metadata.dst_node_id, message.metadata.group_id, message.metadata.ttl) == (4, "7", 60.0)
    inner = Mock(spec=Grid)
    inner.send_and_receive.return_value = []
    Adversary(inner, attacks.SignFlip(), [2]).send_and_receive([], timeout=3.0)
    inner.send_and_receive.assert_called_once_with([], timeout=3.0)


def test_pull_holds_malicious_replies_back_until_all_are_there():
    grid, adversary = attacked(attacks.SignFlip(), [2])
    grid.slow = {3}
    ids = list(adversary.push_messages(instructions([1, 2, 3])))
    first = adversary.pull_messages(ids)
    assert [reply is grid.given[0] for reply in first] == [True]
    assert adversary.pull_messages(ids) == []
    grid.slow = set()
    rest = by_node(adversary.pull_messages(ids))
    assert set(rest) == {2, 3}
    assert rest[3] is grid.given[2]
    np.testing.assert_allclose(update(rest[2]), -(update(grid.given[0]) + update(grid.given[2])) / 2, atol=1e-6)
    assert adversary.pull_messages(ids) == []


def test_pull_one_after_the_other():
    grid, adversary = attacked(attacks.SignFlip(), [2])
    ids = list(adversary.push_messages(instructions([1, 2, 3])))
    (malicious,) = adversary.pull_messages([ids[1]])
    np.testing.assert_allclose(update(malicious), -(update(grid.given[0]) + update(grid.given[2])) / 2, atol=1e-6)
    assert adversary.pull_messages([ids[2]])[0] is grid.given[2]
    assert adversary.pull_messages([ids[0]])[0] is grid.given[0]


def test_pull_of_other_messages():
    grid, adversary = attacked(attacks.SignFlip(), [2])
    ids = adversary.push_messages([*instructions([1, 2], MessageType.EVALUATE), *instructions([3])])
    replies = adversary.pull_messages(ids)
    assert sorted(map(id, replies)) == sorted(map(id, grid.given))


def test_silent_nodes_are_not_waited_for_by_who_pulls():
    _, adversary = attacked(attacks.Silent(), [2])
    ids = adversary.push_messages(instructions([1, 2, 3]))
    assert sorted(by_node(adversary.pull_messages(ids))) == [1, 3]
    assert adversary.pull_messages(ids) == []
    assert not adversary._batches  # nothing is kept for what will not come


def test_pushed_and_pulled_rounds_keep_their_own_malicious_nodes():
    _, adversary = attacked(attacks.SignFlip(), 2, seed=1, redraw=True)
    first, second = (adversary.push_messages(instructions(range(1, 7))) for _ in range(2))
    in_second = adversary.malicious_ids
    one = by_node(adversary.pull_messages(first))
    given = adversary.grid.given
    changed_first = {n for n, reply in one.items() if reply is not by_node(given[:6])[n]}
    changed_second = {
        n for n, reply in by_node(adversary.pull_messages(second)).items() if reply is not by_node(given[6:])[n]
    }
    assert changed_second == in_second
    assert len(changed_first) == 2
