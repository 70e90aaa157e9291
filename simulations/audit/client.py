"""The app of each node: the project's own ClientApp, told which run this is."""

from __future__ import annotations

import json
import os
import random
import sys
from typing import Any
from zlib import crc32

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients import attacks, mods
from simulations.audit.grids import TAG
from simulations.audit.loading import load

_loaded: dict[tuple[str, str], ClientApp] = {}


class AuditedClientApp(ClientApp):
    """Runs the ClientApp of a project, as Flower would, in each of several runs with the same nodes.

    A node begins each run with an empty state, and each message with random numbers of its own.

    Parameters
    ----------
    folder, reference : str
        Where the project is, and its ClientApp as its pyproject.toml names it.
    run_config : dict
        What the app's context holds.
    """

    def __init__(self, folder: str, reference: str, run_config: dict[str, Any]) -> None:
        super().__init__()
        self.folder, self.reference, self.audited_config = folder, reference, run_config

    def __call__(self, message: Message, context: Context) -> Message:
        """Let the project's app answer a message."""
        if TAG not in message.content:
            partition = int(context.node_config["partition-id"])
            return Message(RecordDict({"node": ConfigRecord({"partition-id": partition})}), reply_to=message)
        told = message.content.config_records[TAG]
        del message.content[TAG]
        _begin(context, str(told["run"]))
        own = Context(
            context.run_id, context.node_id, context.node_config, context.state, self.audited_config.copy()
        )  # Flower wants the run-config of the one that it keeps to stay
        seed_all(f"{int(str(told['seed']))}/{told['exchange']!r}/{context.node_config['partition-id']}")
        app = self._app()
        try:
            if "poison" not in told:
                return app(message, own)
            return mods.DataMod(_poison(json.loads(str(told["poison"])), message))(message, own, app)
        finally:
            context.state = own.state
            context.state[TAG] = ConfigRecord({"run": str(told["run"])})

    def _app(self) -> ClientApp:
        key = self.folder, self.reference
        if key not in _loaded:
            os.chdir(self.folder)
            _loaded[key] = load(self.reference, ClientApp, self.folder)
        return _loaded[key]


def _begin(context: Context, run_name: str) -> None:
    """Empty the node's state where it is that of another run."""
    before = context.state.config_records.get(TAG)
    if before is None or before["run"] != run_name:
        context.state = RecordDict()
    else:
        del context.state[TAG]


def _poison(attack: dict[str, Any], message: Message) -> Any:
    """Make a data attack; classes that nobody has counted are as many as the model's last vector is long."""
    given = dict(attack["args"])
    if attack["name"] == "label-flip" and "num_classes" not in given:
        arrays = [array for record in message.content.array_records.values() for array in record.values()]
        vectors = [array.shape[0] for array in arrays if len(array.shape) == 1]
        if not vectors:
            raise ValueError(
                "label-flip cannot tell the number of classes: give it, as in --attacks label-flip:num_classes=10."
            )
        given["num_classes"] = vectors[-1]
    return attacks.from_spec(attack["name"], given)


def seed_all(text: str) -> None:
    """Seed the generators that apps commonly use."""
    seed = crc32(text.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
