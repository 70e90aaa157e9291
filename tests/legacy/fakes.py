"""Clients of `flwr.server` without a SuperLink: proxies that answer through functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flwr.common import (
    Code,
    EvaluateRes,
    FitRes,
    GetParametersRes,
    Parameters,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.server import SimpleClientManager
from flwr.server.client_proxy import ClientProxy

OK = Status(Code.OK, "")


class FakeClient(ClientProxy):
    """A client that trains by a function ``(its number, arrays) -> arrays``, which may raise."""

    def __init__(self, cid: int | str, train: Callable | None = None, start: Parameters | None = None):
        super().__init__(str(cid))
        self.train = train or (lambda _, arrays: arrays)
        self.start = start
        self.asked = 0

    def get_properties(self, ins, timeout, group_id):
        raise NotImplementedError

    def get_parameters(self, ins, timeout, group_id):
        return GetParametersRes(OK, self.start)

    def fit(self, ins, timeout, group_id):
        self.asked += 1
        arrays = self.train(int(self.cid), parameters_to_ndarrays(ins.parameters))
        return fit_res(arrays, {"loss": 1.0 + int(self.cid)})

    def evaluate(self, ins, timeout, group_id):
        return EvaluateRes(OK, float(self.cid), 10, {"accuracy": 0.5})

    def reconnect(self, ins, timeout, group_id):
        raise NotImplementedError


def fit_res(arrays, metrics=None, num_examples=10, status=OK) -> FitRes:
    parameters = arrays if isinstance(arrays, Parameters) else ndarrays_to_parameters([np.asarray(a) for a in arrays])
    return FitRes(status, parameters, num_examples, {} if metrics is None else metrics)


def manager(clients) -> SimpleClientManager:
    made = SimpleClientManager()
    for client in clients:
        made.register(client)
    return made
