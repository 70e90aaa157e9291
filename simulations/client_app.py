"""The Flower ClientApp of a simulation, where pyproject.toml looks for it."""

from simulations.node import client

# Flower reads this file without running it, and wants to see an assignment.
app = client.app
