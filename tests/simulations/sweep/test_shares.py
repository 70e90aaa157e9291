"""The part of the machine that each session gets."""

import pytest

from simulations.engine.session import Resources
from simulations.sweep import shares


def test_one_session_gets_the_whole_machine_and_several_get_parts(monkeypatch):
    nodes = Resources(num_cpus=2.0, num_gpus=0.25)
    monkeypatch.setattr(shares, "default_threads", lambda: 10)
    monkeypatch.setattr(shares, "visible_gpus", lambda: ("4", "5", "6"))
    assert shares.share_out(nodes, 1) == [nodes]
    assert [(share.session_cpus, share.devices, share.num_gpus) for share in shares.share_out(nodes, 2)] == [
        (5, ("4", "6"), 0.25),
        (5, ("5",), 0.25),
    ]
    # Six sessions on three GPUs: two share one, and the nodes of each must leave the other its half.
    six = shares.share_out(nodes, 6)
    assert [(share.session_cpus, share.devices, share.num_gpus) for share in six] == [
        (2, (device,), 0.5) for device in ("4", "5", "6", "4", "5", "6")
    ]
    assert shares.share_out(Resources(), 3) == [Resources(session_cpus=3)] * 3


@pytest.mark.parametrize(("cores", "num_gpus", "sessions"), [(2, 0, 1), (16, 0, 4), (16, 0.5, 3), (2, 0.5, 1)])
def test_sessions_side_by_side_by_default(monkeypatch, cores, num_gpus, sessions):
    monkeypatch.setattr(shares, "default_threads", lambda: cores)
    monkeypatch.setattr(shares, "visible_gpus", lambda: ("0", "1", "2"))
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert shares.sensible_sessions(Resources(num_gpus=num_gpus)) == sessions


def test_on_a_ray_cluster_there_is_one_session(sweep, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(shares, "default_threads", lambda: 16)
    assert shares.sensible_sessions(Resources()) == 1
    refused = sweep("--parallel", "2")
    assert refused.exit_code != 0
    assert "--parallel 2 was given with RAY_ADDRESS=10.0.0.1:6379" in " ".join(refused.output.split())
    assert sweep().exit_code == 0
