"""Edge inputs of a run."""

import numpy as np

from simulations.config.run_config import RunConfig
from simulations.data.edges import edge_inputs
from simulations.data.inputs import Inputs
from simulations.data.load import load_split


def test_samples_of_a_class_are_turned_and_held_out():
    config = RunConfig(attack="edge-case", attack_args="edge=turned:4")
    for split in ("train", "test"):
        data = load_split("digits", split)
        inputs, labels = edge_inputs(config, split)
        wanted = Inputs.of("digits").plain(data.inputs[data.labels == 4])
        assert labels.tolist() == [4] * len(wanted)
        np.testing.assert_array_equal(inputs, np.rot90(wanted, axes=(2, 3)))
    assert inputs.shape[1:] == (1, 8, 8)
