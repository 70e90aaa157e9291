"""Mods on real ClientApps, and the same for NumPyClient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp

from clients import MaliciousNumPyClient, PoisonedDataset, malicious_client_fn, mods, poisoned_labels

W = np.array([[1.0, -2.0]], dtype=np.float32)


def context() -> Context:
    return Context(run_id=1, node_id=7, node_config={}, state=RecordDict(), run_config={})


def message(kind: str = "train") -> Message:
    arrays = ArrayRecord({"w": Array(W), "seen": Array(np.array(3)), "b": Array(np.array(0.5))})
    return Message(RecordDict({"arrays": arrays}), dst_node_id=7, message_type=kind)


def client_app(*used: Any) -> ClientApp:
    """Make an app that adds 0.25 to w, 1 to b and 10 to the counter."""
    app = ClientApp(mods=list(used))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return step(message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return step(message)

    return app


def step(message: Message) -> Message:
    arrays = message.content["arrays"]
    assert isinstance(arrays, ArrayRecord)
    # In place, as an app may: the mod must not be misled.
    arrays["w"] = Array(arrays["w"].numpy() + np.float32(0.25))
    arrays["b"] = Array(np.asarray(arrays["b"].numpy() + 1))
    arrays["seen"] = Array(np.asarray(arrays["seen"].numpy() + 10))
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 4})})
    return Message(content, reply_to=message)


def test_sign_flip() -> None:
    reply = client_app(mods.SignFlip())(message(), context())
    arrays = reply.content["arrays"]
    assert isinstance(arrays, ArrayRecord)
    np.testing.assert_array_equal(arrays["w"].numpy(), W - 0.25)
    assert arrays["w"].dtype == "float32"
    assert arrays["b"].numpy() == 0.5 - 1
    assert arrays["b"].shape == ()
    assert arrays["seen"].numpy() == 13
    assert list(arrays) == ["w", "seen", "b"]
    assert reply.content["metrics"] == MetricRecord({"num-examples": 4})


@pytest.mark.parametrize("mod", [mods.SignFlip(), mods.LabelFlip(10)])
def test_evaluate_is_not_touched(mod: mods.ClientMod) -> None:
    reply = client_app(mod)(message("evaluate"), context())
    np.testing.assert_array_equal(reply.content["arrays"]["w"].numpy(), W + 0.25)  # type: ignore[index]


def test_two_flips_are_none() -> None:
    reply = client_app(mods.SignFlip(), mods.SignFlip())(message(), context())
    np.testing.assert_array_equal(reply.content["arrays"]["w"].numpy(), W + 0.25)  # type: ignore[index]


def test_errors_pass() -> None:
    app = ClientApp()

    @app.train(mods=[mods.SignFlip()])
    def train(message: Message, context: Context) -> Message:
        return Message(Error(code=3, reason="no data"), reply_to=message)

    assert app(message(), context()).error.code == 3


def test_replies_that_do_not_fit_pass_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    app = ClientApp()

    @app.train(mods=[mods.SignFlip()])
    def train(message: Message, context: Context) -> Message:
        return Message(RecordDict({"arrays": ArrayRecord([np.ones(2)])}), reply_to=message)

    reply = app(message(), context())
    np.testing.assert_array_equal(reply.content["arrays"]["0"].numpy(), np.ones(2))  # type: ignore[index]
    assert "SignFlip leaves the reply as it is: the reply lacks the array 'w'" in caplog.text


def test_label_flip() -> None:
    torch, data = pytest.importorskip("torch"), pytest.importorskip("torch.utils.data")
    app, seen = ClientApp(), {}

    @app.train(mods=[mods.LabelFlip(num_classes=10)])
    def train(message: Message, context: Context) -> Message:
        dataset = PoisonedDataset(data.TensorDataset(torch.zeros(4, 1), torch.arange(4)))
        seen["loader"] = [int(label) for _, label in data.DataLoader(dataset)]
        seen["array"] = poisoned_labels(np.arange(4)).tolist()
        return step(message)

    reply = app(message(), context())
    assert seen == {"loader": [9, 8, 7, 6], "array": [9, 8, 7, 6]}
    np.testing.assert_array_equal(reply.content["arrays"]["w"].numpy(), W + 0.25)  # type: ignore[index]
    assert poisoned_labels(3) == 3


def test_label_flip_ends_with_the_call_even_if_it_fails() -> None:
    app = ClientApp()

    @app.train(mods=[mods.LabelFlip(10)])
    def train(message: Message, context: Context) -> Message:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        app(message(), context())
    assert poisoned_labels(3) == 3


def test_label_flip_probability_and_errors() -> None:
    mod = mods.LabelFlip(2, probability=0.5, seed=1)
    assert (mod.attack.probability, mod.attack.seed) == (0.5, 1)
    with pytest.raises(ValueError, match="LabelFlip was given probability"):
        mods.LabelFlip(2, probability=2)


class Trainer(NumPyClient):
    """Adds 0.25 in place, counts up, and reports the label that it trained on."""

    def fit(self, parameters: Any, config: Any) -> Any:
        parameters[0] += 0.25
        return [parameters[0], parameters[1] + 10], 4, {"label": poisoned_labels(2), "lr": config["lr"]}

    def evaluate(self, parameters: Any, config: Any) -> Any:
        return float(parameters[0].sum()), 4, {}


def test_numpy_client_sign_flip() -> None:
    client = MaliciousNumPyClient(Trainer(), mods.SignFlip())
    parameters, num_examples, metrics = client.fit([W.copy(), np.array([3])], {"lr": 0.1})
    np.testing.assert_array_equal(parameters[0], W - 0.25)
    assert parameters[0].dtype == np.float32
    np.testing.assert_array_equal(parameters[1], [13])
    assert parameters[1].dtype.kind == "i"
    assert (num_examples, metrics) == (4, {"label": 2, "lr": 0.1})
    assert client.evaluate([W], {}) == (-1.0, 4, {})


def test_numpy_client_label_flip() -> None:
    client = MaliciousNumPyClient(Trainer(), mods.LabelFlip(10))
    parameters, _, metrics = client.fit([W.copy(), np.array([3])], {"lr": 0.1})
    np.testing.assert_array_equal(parameters[0], W + 0.25)
    assert metrics["label"] == 7
    assert poisoned_labels(2) == 2


def fit_through(app: ClientApp, node: int = 7, config: Any = None, **node_config: Any) -> Any:
    """Send a fit instruction through an app, as Flower does, and return the arrays."""
    from flwr.compat.common.parameter import ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.compat.common.recorddict_compat import fitins_to_recorddict, recorddict_to_fitres
    from flwr.compat.common.typing import FitIns

    fit_ins = FitIns(ndarrays_to_parameters([W, np.array([3])]), {"lr": 0.1, **(config or {})})
    instruction = Message(fitins_to_recorddict(fit_ins, keep_input=True), dst_node_id=node, message_type="train")
    where = Context(run_id=1, node_id=node, node_config=node_config, state=RecordDict(), run_config={})
    reply = app(instruction, where)
    return parameters_to_ndarrays(recorddict_to_fitres(reply.content, keep_input=True).parameters)


def make_trainer(_: Context) -> Any:
    return Trainer().to_client()


def test_numpy_client_in_a_flower_app() -> None:
    def client_fn(_: Context) -> Any:
        return MaliciousNumPyClient(Trainer(), mods.SignFlip()).to_client()

    np.testing.assert_array_equal(fit_through(ClientApp(client_fn))[0], W - 0.25)


def test_mods_reach_apps_of_numpy_clients_too() -> None:
    np.testing.assert_array_equal(fit_through(ClientApp(make_trainer, mods=[mods.SignFlip()]))[0], W - 0.25)


def test_client_fn_of_chosen_nodes() -> None:
    def app() -> ClientApp:
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


def test_client_fn_draws_anew_for_each_node_and_round() -> None:
    def noise(node: int, **config: Any) -> Any:
        app = ClientApp(client_fn=malicious_client_fn(make_trainer, mods.Random(seed=1)))
        return tuple(fit_through(app, node, config)[0].ravel().tolist())

    assert noise(1, server_round=1) == noise(1, server_round=1)
    assert len({noise(1, server_round=1), noise(1, server_round=2), noise(2, server_round=1), noise(1)}) == 4


def test_client_fn_of_another_kind() -> None:
    app = malicious_client_fn(lambda _: object(), mods.SignFlip())  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="give one that makes a NumPyClient, or use the mod itself"):
        app(context())


def test_numpy_client_offers_what_the_honest_one_offers() -> None:
    honest, malicious = Trainer().to_client(), MaliciousNumPyClient(Trainer(), mods.SignFlip()).to_client()
    methods = ("get_properties", "get_parameters", "fit", "evaluate")
    assert [name in vars(type(honest)) for name in methods] == [False, False, True, True]
    assert [name in vars(type(malicious)) for name in methods] == [False, False, True, True]


def test_numpy_client_passes_questions_on() -> None:
    class Talkative(Trainer):
        def get_properties(self, config: Any) -> Any:
            return {"cores": 2}

        def get_parameters(self, config: Any) -> Any:
            return [W]

    client = MaliciousNumPyClient(Talkative(), mods.SignFlip())
    assert client.get_properties({}) == {"cores": 2}
    assert client.get_parameters({})[0] is W


def test_numpy_client_errors() -> None:
    with pytest.raises(ValueError, match="give a NumPyClient"):
        MaliciousNumPyClient(object(), mods.SignFlip())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="was given mod"):
        MaliciousNumPyClient(Trainer(), "sign-flip")  # type: ignore[arg-type]

    class Short(NumPyClient):
        def fit(self, parameters: Any, config: Any) -> Any:
            return parameters[:1], 1, {}

    with pytest.raises(ValueError, match="1 arrays by fit for the 2"):
        MaliciousNumPyClient(Short(), mods.SignFlip()).fit([W, W], {})
