"""The same mods for projects on NumPyClient."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.compat.common.parameter import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common.recorddict_compat import fitins_to_recorddict, recorddict_to_fitres
from flwr.compat.common.typing import FitIns

from clients import MaliciousNumPyClient, malicious_client_fn, mods, poisoned_labels
from tests.clients.apps import W, context


class Trainer(NumPyClient):
    """Adds 0.25 in place, counts up, and reports the label that it trained on."""

    def fit(self, parameters, config):
        parameters[0] += 0.25
        return [parameters[0], parameters[1] + 10], 4, {"label": poisoned_labels(2), "lr": config["lr"]}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 4, {}


def test_sign_flip():
    client = MaliciousNumPyClient(Trainer(), mods.SignFlip())
    parameters, num_examples, metrics = client.fit([W.copy(), np.array([3])], {"lr": 0.1})
    np.testing.assert_array_equal(parameters[0], W - 0.25)
    assert parameters[0].dtype == np.float32
    np.testing.assert_array_equal(parameters[1], [13])
    assert parameters[1].dtype.kind == "i"
    assert (num_examples, metrics) == (4, {"label": 2, "lr": 0.1})
    assert client.evaluate([W], {}) == (-1.0, 4, {})


def test_label_flip():
    client = MaliciousNumPyClient(Trainer(), mods.LabelFlip(10))
    parameters, _, metrics = client.fit([W.copy(), np.array([3])], {"lr": 0.1})
    np.testing.assert_array_equal(parameters[0], W + 0.25)
    assert metrics["label"] == 7
    assert poisoned_labels(2) == 2


FAULTS = {
    mods.NonFinite(): lambda w, seen: np.isnan(w).all() and seen == 13,
    mods.Scaled(-4.0): lambda w, seen: np.array_equal(w, W - 1) and seen == 13,
    mods.WrongShape(): lambda w, seen: (w.shape, seen.shape) == ((3,), (2,)),
    mods.Garbage(seed=1): lambda w, seen: (w.dtype, w.size) == (np.uint8, W.nbytes),
}


@pytest.mark.parametrize("mod", FAULTS, ids=lambda mod: type(mod).__name__)
def test_faults(mod):
    arrays, num_examples, _ = MaliciousNumPyClient(Trainer(), mod).fit([W.copy(), np.array(3)], {"lr": 0.1})
    assert num_examples == 4
    assert FAULTS[mod](*arrays)


def test_silence_is_an_error():
    with pytest.raises(RuntimeError, match="sends no update"):
        MaliciousNumPyClient(Trainer(), mods.Silent()).fit([W, np.array(3)], {})


def test_running_statistics_can_be_left_alone_where_arrays_are_named():
    zeros, ones = ([np.full(2, value, np.float32)] * 2 for value in (0, 1))
    named = mods.SignFlip(statistics=False, names=["w", "bn.running_var"])
    reported, _, _ = named.fit(zeros, lambda: (ones, 1, {}))
    assert [array.tolist() for array in reported] == [[-1, -1], [1, 1]]
    with pytest.raises(ValueError, match=r"names = None; a NumPyClient's 2 arrays have no names of their own"):
        mods.SignFlip(statistics=False).fit(zeros, lambda: (zeros, 1, {}))


def fit_through(app, node=7, config=None, **node_config):
    """Send a fit instruction through an app, as Flower does, and return the arrays."""

    fit_ins = FitIns(ndarrays_to_parameters([W, np.array([3])]), {"lr": 0.1, **(config or {})})
    instruction = Message(fitins_to_recorddict(fit_ins, keep_input=True), dst_node_id=node, message_type="train")
    where = Context(run_id=1, node_id=node, node_config=node_config, state=RecordDict(), run_config={})
    reply = app(instruction, where)
    return parameters_to_ndarrays(recorddict_to_fitres(reply.content, keep_input=True).parameters)


def make_trainer(_):
    return Trainer().to_client()


def test_a_malicious_client_in_a_flower_app():
    def client_fn(_):
        return MaliciousNumPyClient(Trainer(), mods.SignFlip()).to_client()

    np.testing.assert_array_equal(fit_through(ClientApp(client_fn))[0], W - 0.25)


def test_mods_reach_apps_of_numpy_clients_too():
    np.testing.assert_array_equal(fit_through(ClientApp(make_trainer, mods=[mods.SignFlip()]))[0], W - 0.25)


def test_client_fn_of_chosen_nodes():
    def app():
        malicious = malicious_client_fn(
            make_trainer, mods.SignFlip(), when=lambda context: int(context.node_config["partition-id"]) < 2
        )
        return ClientApp(client_fn=malicious)

    for partition in range(4):
        expected = W - 0.25 if partition < 2 else W + 0.25
        np.testing.assert_array_equal(fit_through(app(), **{"partition-id": partition})[0], expected)
    np.testing.assert_array_equal(
        fit_through(ClientApp(malicious_client_fn(make_trainer, mods.SignFlip())))[0], W - 0.25
    )


def test_client_fn_draws_anew_for_each_node_and_round():
    def noise(node, **config):
        app = ClientApp(client_fn=malicious_client_fn(make_trainer, mods.Random(seed=1)))
        return tuple(fit_through(app, node, config)[0].ravel().tolist())

    assert noise(1, server_round=1) == noise(1, server_round=1)
    assert len({noise(1, server_round=1), noise(1, server_round=2), noise(2, server_round=1), noise(1)}) == 4


def test_client_fn_of_another_kind():
    app = malicious_client_fn(lambda _: object(), mods.SignFlip())
    with pytest.raises(ValueError, match="give one that makes a NumPyClient, or use the mod itself"):
        app(context())


def test_offers_what_the_honest_one_offers():
    honest, malicious = Trainer().to_client(), MaliciousNumPyClient(Trainer(), mods.SignFlip()).to_client()
    methods = ("get_properties", "get_parameters", "fit", "evaluate")
    assert [name in vars(type(honest)) for name in methods] == [False, False, True, True]
    assert [name in vars(type(malicious)) for name in methods] == [False, False, True, True]


def test_passes_questions_on():
    class Talkative(Trainer):
        def get_properties(self, config):
            return {"cores": 2}

        def get_parameters(self, config):
            return [W]

    client = MaliciousNumPyClient(Talkative(), mods.SignFlip())
    assert client.get_properties({}) == {"cores": 2}
    assert client.get_parameters({})[0] is W


def test_errors():
    with pytest.raises(ValueError, match="give a NumPyClient"):
        MaliciousNumPyClient(object(), mods.SignFlip())
    with pytest.raises(ValueError, match="was given mod"):
        MaliciousNumPyClient(Trainer(), "sign-flip")

    class Short(NumPyClient):
        def fit(self, parameters, config):
            return parameters[:1], 1, {}

    with pytest.raises(ValueError, match="1 arrays by fit for the 2"):
        MaliciousNumPyClient(Short(), mods.SignFlip()).fit([W, W], {})
