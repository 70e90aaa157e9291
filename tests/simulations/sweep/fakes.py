"""Stand-ins for sessions, which do runs at once."""

from simulations.engine.session import OpenSession
from simulations.run.recorder import RunRecorder
from simulations.sweep.store import read_records

EXPERIMENT = """
title = "Three rates"
[federation]
num-supernodes = 5
[parameters]
num-malicious = 1
num-rounds = 2
[grid]
rate = [
    { label = "low", learning-rate = 0.1 },
    { label = "middle", learning-rate = 0.5 },
    { label = "high", learning-rate = 0.9 },
]
"""


class Sessions:
    """What stands in for sessions: all runs, and what becomes of them by learning rate.

    ``"done"``, the default; ``"error"``: the run fails; ``"dies"``: the session ends in its midst;
    ``"refuses"``: the session ends before it has begun.
    """

    def __init__(self):
        self.started = []
        self.ran = []
        self.fates = {}

    def __call__(self, num_supernodes, log_path, resources):
        session = FakeSession(num_supernodes, log_path, resources)
        session.sessions = self
        self.started.append(session)
        return session


class FakeSession(OpenSession):
    """A session whose runs are over as soon as they are asked for."""

    status = None

    def __enter__(self):
        self.log_path.write_text("the log's last words\n")
        return self

    def __exit__(self, *_):
        self.status = -15

    def order(self, config):
        self.sessions.ran.append(config.learning_rate)
        fate = self.sessions.fates.get(config.learning_rate, "done")
        if fate == "interrupt":
            raise KeyboardInterrupt
        if fate == "refuses":
            self.status = 1
            return self.path_of(config)
        recorder = RunRecorder(config, self.num_supernodes)
        recorder.round(0, 0.1, 2.0)
        recorder.train_metrics({"measure/xi": 3.0, "train-loss": 1.0})
        recorder.round(1, None, None)
        if fate == "error":
            recorder.fail(ValueError("no data"))
        elif fate == "dies":
            self.status = -9
        else:
            recorder.round(2, config.learning_rate, 1.0)
            recorder.end()
        return recorder.path

    def poll(self):
        return self.status


def by_label(path):
    records = read_records(path)
    assert len({record["cell"] for record in records}) == len(records)
    return {record["labels"].get("rate"): record for record in records}
