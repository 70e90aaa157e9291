"""The part of the machine that each of several sessions gets."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace

from flwr_robust.engine.cpu import default_threads
from simulations.engine.session import LOCAL, Resources, ray_address

# A session takes its time to start and about a gigabyte of memory. On two cores, two sessions were 8 % faster than
# one (17 nodes, 431,080 parameters): worth it where a session leaves cores idle while its server works alone.
CORES_PER_SESSION = 4


def sensible_sessions(nodes: Resources) -> int:
    """Return how many sessions side by side suit this machine; with GPUs, one for each at most; on a cluster, one."""
    if joins_cluster():
        return 1
    by_cores = max(1, default_threads() // CORES_PER_SESSION)
    return min(by_cores, max(1, len(visible_gpus()))) if nodes.num_gpus else by_cores


def share_out(nodes: Resources, num_sessions: int) -> list[Resources]:
    """Share out cores and GPUs among sessions; one session alone gets what Ray finds."""
    if num_sessions == 1:
        return [nodes]
    devices = visible_gpus() if nodes.num_gpus else ()
    return [_share(nodes, number, num_sessions, default_threads(), devices) for number in range(num_sessions)]


def joins_cluster() -> bool:
    """Return whether sessions join a Ray cluster that is there already, all of which one session takes."""
    return ray_address() != LOCAL


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(named.split(",")) if named else tuple(str(number) for number in range(torch.cuda.device_count()))


def _share(nodes: Resources, number: int, num_sessions: int, cores: int, devices: Sequence[str]) -> Resources:
    share = replace(nodes, session_cpus=max(math.ceil(nodes.num_cpus), cores // num_sessions))
    if not devices:
        return share
    mine = tuple(devices[number::num_sessions]) or (devices[number % len(devices)],)
    # Of a GPU that several sessions share, each may fill its part alone.
    sharers = math.ceil(num_sessions / len(devices))
    return replace(share, devices=mine, num_gpus=min(1.0, nodes.num_gpus * sharers))
