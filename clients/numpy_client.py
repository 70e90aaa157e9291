"""Malicious clients for projects on ``flwr.client.NumPyClient``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Context
from flwr.client import Client, NumPyClient

from .mods import ClientMod, FitResult, Parameters, node_number, round_of


class MaliciousNumPyClient(NumPyClient):
    """A NumPyClient whose training is malicious, and honest in everything else.

    Parameters
    ----------
    client : NumPyClient
        The honest client.
    mod : clients.mods.ClientMod
        What is changed, for example ``mods.SignFlip()``.
    node : int
        A number of its own, such as its partition: nodes with the same seed then draw differently.

    Raises
    ------
    ValueError
        If `client` or `mod` is something else.
    """

    def __init__(self, client: NumPyClient, mod: ClientMod, node: int = 0) -> None:
        if not isinstance(client, NumPyClient):
            raise ValueError(f"MaliciousNumPyClient was given client = {client!r}; give a NumPyClient.")
        if not isinstance(mod, ClientMod):
            raise ValueError(f"MaliciousNumPyClient was given mod = {mod!r}; give one of clients.mods.")
        self.client = client
        self.mod = mod
        self.node = node

    def get_properties(self, config: dict[str, Any]) -> dict[str, Any]:
        return self.client.get_properties(config)

    def get_parameters(self, config: dict[str, Any]) -> Parameters:
        return self.client.get_parameters(config)

    def fit(self, parameters: Parameters, config: dict[str, Any]) -> FitResult:
        """Train as the mod says.

        Parameters
        ----------
        parameters : list of arrays
            The global model.
        config : dict
            Passed on.

        Returns
        -------
        parameters, num_examples, metrics
            Parameters with the shapes and dtypes that the honest client returns.

        Raises
        ------
        ValueError
            If the honest client returns other arrays than it was given and the mod needs their difference.
        """
        model = np.ascontiguousarray(parameters[0]).tobytes() if parameters else b""
        self.mod.begin(self.node, round_of([config], model))
        return self.mod.fit(parameters, lambda: self.client.fit(parameters, config))

    def evaluate(self, parameters: Parameters, config: dict[str, Any]) -> tuple[float, int, dict[str, Any]]:
        return self.client.evaluate(parameters, config)

    def to_client(self) -> Client:
        """Return the Flower client, with the methods that the honest one implements and no more."""
        client = self.client.to_client()
        # Flower's wrapper offers the server what its NumPyClient overrides, and this class overrides all.
        client.numpy_client = self  # type: ignore[attr-defined]
        return client


def malicious_client_fn(
    client_fn: Callable[[Context], Client], mod: ClientMod, when: Callable[[Context], bool] | None = None
) -> Callable[[Context], Client]:
    """Return a ``client_fn`` whose NumPyClients are malicious, for projects whose code should stay as it is.

    Parameters
    ----------
    client_fn : callable
        The project's own: from a context to ``NumPyClient(...).to_client()``.
    mod : clients.mods.ClientMod
        What is changed.
    when : callable, optional
        Whether the node of a context is malicious. Default: each one is.

    Returns
    -------
    callable
        For ``ClientApp(client_fn=...)``. It raises ValueError where the project makes a client of another kind.

    Examples
    --------
    >>> app = ClientApp(client_fn=malicious_client_fn(client_fn, mods.SignFlip()))  # doctest: +SKIP
    """

    def make(context: Context) -> Client:
        client = client_fn(context)
        if when is not None and not when(context):
            return client
        honest = getattr(client, "numpy_client", client)
        if not isinstance(honest, NumPyClient):
            raise ValueError(
                f"malicious_client_fn was given a client_fn that makes {client!r}; give one that makes a NumPyClient, "
                "or use the mod itself: ClientApp(client_fn=client_fn, mods=[...])."
            )
        return MaliciousNumPyClient(honest, mod, node_number(context)).to_client()

    return make
