"""A round under attack: what the attack is given, and rounds in which nodes fail."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest
from flwr.app import Array, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from clients import Adversary, attacks
from flwr_robust import rules
from tests.clients.fake_nodes import (
    Spy,
    attacked,
    by_node,
    failing,
    floats,
    instructions,
    trained,
    update,
    with_statistics,
)


def worst(honest, rule, f):
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
def test_optimal_attack_searches_against_the_servers_rule(options, rule):
    grid, adversary = attacked(attacks.FallOfEmpires("optimal"), [2, 5], **options)
    replies = by_node(adversary.send_and_receive(instructions(range(1, 7))))
    honest = np.stack([update(reply) for reply in grid.given if reply.metadata.src_node_id not in (2, 5)])
    np.testing.assert_allclose(update(replies[2]), worst(honest, rule, 2), atol=1e-5)


def test_a_rule_that_takes_layers_is_given_the_attacked_ones():
    asked = []

    def rule(rows, layers=None):
        asked.append(layers)
        return rows.mean(axis=0)

    for statistics in (False, True):
        _, adversary = attacked(attacks.FallOfEmpires("optimal", factors=[1.0]), [2], rule=rule, statistics=statistics)
        adversary.send_and_receive(instructions(range(1, 7), arrays=with_statistics()))
    attacked_layers = [("w", (3, 4)), ("b", (4,))]
    assert asked == [attacked_layers, [*attacked_layers, ("bn.running_mean", (4,)), ("bn.running_var", (4,))]]


def test_the_attack_is_shown_a_share_and_the_malicious_nodes_own():
    spy = Spy()
    grid, adversary = attacked(spy, [2, 5], sees=0.5, seed=3)
    replies = adversary.send_and_receive(instructions(range(1, 7)))
    (sight,) = spy.shown
    given = by_node(grid.given)
    assert (len(sight.honest), sight.unseen, sight.f) == (2, 2, 2)
    for node, row in zip(sight.ids, sight.honest, strict=True):
        assert node in (1, 3, 4, 6)
        np.testing.assert_allclose(row, update(given[node]), atol=1e-6)
    assert sight.trained is not None
    np.testing.assert_allclose(sight.trained, [update(given[2]), update(given[5])], atol=1e-6)
    known = [*sight.honest, *sight.trained]
    np.testing.assert_allclose(update(by_node(replies)[2]), -np.mean(known, axis=0), atol=1e-6)


@pytest.mark.parametrize("sees", [None, 1.0])
def test_seeing_all_is_the_omniscient_attacker(sees):
    grid, adversary = attacked(attacks.ALittleIsEnough(1.5), [2, 5], sees=sees)
    replies = by_node(adversary.send_and_receive(instructions(range(1, 7))))
    honest = np.array([update(by_node(grid.given)[node]) for node in (1, 3, 4, 6)])
    np.testing.assert_allclose(update(replies[2]), honest.mean(axis=0) + 1.5 * honest.std(axis=0), atol=1e-5)


def test_seeing_nothing_leaves_the_own_updates():
    grid, adversary = attacked(attacks.SignFlip(), [2, 5], sees=0.0)
    replies = by_node(adversary.send_and_receive(instructions(range(1, 7))))
    own = [update(by_node(grid.given)[node]) for node in (2, 5)]
    np.testing.assert_allclose(update(replies[2]), -np.mean(own, axis=0), atol=1e-6)


def test_error_replies():
    grid, adversary = attacked(attacks.SignFlip(), [2, 5], failing(3, 5))
    replies = by_node(adversary.send_and_receive(instructions(range(1, 7))))
    given = by_node(grid.given)
    assert replies[3] is given[3]
    expected = -np.mean([update(given[node]) for node in (1, 4, 6)], axis=0)
    for node in (2, 5):
        np.testing.assert_allclose(update(replies[node]), expected, atol=1e-6)
    # Node 5 had only an error to show: it has the metrics of an honest node, and replies to its own message.
    assert not replies[5].has_error()
    assert replies[5].content["metrics"] == given[1].content["metrics"]
    assert list(replies[5].content) == list(given[1].content)
    assert replies[5].content["model"]["seen"].numpy() == 5
    assert replies[5].metadata.reply_to_message_id == given[5].metadata.reply_to_message_id


def test_error_replies_from_the_superlink_are_known_by_the_message_that_they_reply_to():
    def answer(message):
        reply = failing(5)(message)
        if reply.has_error():
            reply.metadata.__dict__["_src_node_id"] = 1  # the SuperLink's own
        return reply

    _, adversary = attacked(attacks.SignFlip(), [5], answer)
    replies = adversary.send_and_receive(instructions([2, 5, 6]))
    assert not replies[1].has_error()
    np.testing.assert_allclose(update(replies[1]), -(update(replies[0]) + update(replies[2])) / 2, atol=1e-6)


def spoil(reply, how):
    arrays = reply.content["model"]
    if how == "nan":
        arrays["w"] = Array(np.full((3, 4), np.nan, dtype=np.float32))
    elif how == "shape":
        arrays["w"] = Array(np.ones(3, dtype=np.float32))
    elif how == "integers":
        arrays["w"] = Array(np.ones((3, 4), dtype=np.int32))
    elif how == "missing":
        del arrays["w"]
    elif how == "bytes":
        arrays["w"] = Array("float32", (3, 4), "numpy.ndarray", b"no npy")
    elif how == "records":
        del reply.content["model"]


@pytest.mark.parametrize("how", ["nan", "shape", "integers", "missing", "bytes", "records"])
def test_spoilt_replies(how, caplog):
    def answer(message):
        reply = trained(message)
        if message.metadata.dst_node_id in (3, 5):
            spoil(reply, how)
        return reply

    grid, adversary = attacked(attacks.SignFlip(), [5], answer)
    replies = by_node(adversary.send_and_receive(instructions(range(1, 7))))
    given = by_node(grid.given)
    assert replies[3] is given[3]
    assert "honest node 3 is left out" in caplog.text
    expected = -np.mean([update(given[node]) for node in (1, 2, 4, 6)], axis=0)
    np.testing.assert_allclose(update(replies[5]), expected, atol=1e-6)


def test_no_honest_reply(caplog):
    grid, adversary = attacked(attacks.SignFlip(), [2], failing(1, 3))
    replies = adversary.send_and_receive(instructions([1, 2, 3]))
    assert all(reply is given for reply, given in zip(replies, grid.given, strict=True))
    assert "no honest reply can be used" in caplog.text


def test_rule_that_refuses_the_round(caplog):
    grid, adversary = attacked(attacks.FallOfEmpires("optimal"), [2], rule=rules.Krum(f=4))
    replies = adversary.send_and_receive(instructions([1, 2, 3]))
    assert all(reply is given for reply, given in zip(replies, grid.given, strict=True))
    assert "no attack in this round: none of 41 factors" in caplog.text


def test_mock_replies():
    replies = []
    for node in (1, 2, 3):
        real = trained(instructions([node])[0])
        reply = Mock(spec=Message, content=real.content)
        reply.has_error.return_value = False
        reply.metadata.src_node_id = node
        replies.append(reply)
    grid = Mock(spec=Grid)
    grid.send_and_receive.return_value = replies
    before = replies[1].content
    result = Adversary(grid, attacks.SignFlip(), [2]).send_and_receive(instructions([1, 2, 3]))
    assert (result[0], result[2]) == (replies[0], replies[2])
    assert replies[1].content is before
    np.testing.assert_allclose(update(result[1]), -(update(result[0]) + update(result[2])) / 2, atol=1e-6)


def test_replies_from_nowhere_pass():
    stranger = trained(instructions([77])[0])
    grid = Mock(spec=Grid)
    honest, malicious = (trained(message) for message in instructions([1, 2]))
    grid.send_and_receive.return_value = [stranger, honest, malicious]
    result = Adversary(grid, attacks.SignFlip(), [2]).send_and_receive(instructions([1, 2]))
    assert result[0] is stranger
    np.testing.assert_allclose(update(result[2]), -update(honest), atol=1e-6)


def test_own_attacks_need_no_honest_reply():
    grid, adversary = attacked(attacks.Scaled(-1.0), [2], trained)
    (reply,) = adversary.send_and_receive(instructions([2]))
    np.testing.assert_allclose(update(reply), -update(grid.given[0]), atol=1e-6)


def test_a_rule_is_told_what_the_server_tells_it():
    told = {}

    def rule(rows, layers=None, *, ids=None, root=None, model=None):
        told.update(layers=layers, ids=ids, root=root, model=model)
        return rows.mean(axis=0)

    _, adversary = attacked(attacks.FallOfEmpires("optimal", [1.0]), [1, 5], rule=rule, sees=0.5, seed=1)
    orders = instructions(range(1, 7))
    adversary.send_and_receive(orders)
    assert sorted(told["ids"][:4]) == [2, 3, 4, 6]
    assert list(told["ids"][4:]) == [1, 5]
    np.testing.assert_allclose(told["model"], floats(orders[0].content), rtol=1e-6)
    seen = [update(trained(instructions([node])[0])) for node in told["ids"][:2]]
    np.testing.assert_allclose(told["root"], np.mean(seen, axis=0), atol=1e-6)
    assert [name for name, _ in told["layers"]] == ["w", "b"]
