"""What `summary` says of a rule."""

from __future__ import annotations

from logging import INFO, WARNING

from flwr.supercore import log

from flwr_robust.engine.cpu import CPU
from flwr_robust.engine.device import Device
from flwr_robust.record.suspicion import Suspicion
from flwr_robust.rules.base import Rule, resolve_f
from flwr_robust.rules.theory import kappa
from flwr_robust.strategies.cautions import cautions


def log_aggregation(
    rule: Rule,
    num_malicious_nodes: int | float,
    min_nodes: int,
    *,
    suspicion: Suspicion | None,
    device: Device,
    momentum: float,
    rate: float,
) -> None:
    """Log the chain, f, the least number of replies, and kappa where it is proven."""
    nodes = max(min_nodes, rule.min_rows)
    log(INFO, "\t├──> Robust aggregation:")
    log(INFO, "\t│\t├── Chain: %s", rule)
    log(INFO, "\t│\t├── Malicious nodes to tolerate: %s", num_malicious_nodes)
    log(INFO, "\t│\t├── Least number of replies: %d", rule.min_rows)
    log(INFO, "\t│\t├── Breakdown point of %s: %s", type(rule.last).__name__, rule.last.breakdown)
    coefficient = kappa(rule, nodes, resolve_f(num_malicious_nodes, nodes))
    known = "not proven" if coefficient is None else f"{coefficient:.4g}"
    log(INFO, "\t│\t├── Robustness coefficient kappa at %d replies: %s", nodes, known)
    if suspicion is not None:
        log(INFO, "\t│\t├── %s", suspicion)
    if device is not CPU:
        log(INFO, "\t│\t├── Device: %s, through torch", device.name)
    if momentum:
        log(INFO, "\t│\t├── Server momentum: %g", momentum)
    log(INFO, "\t│\t└── Server learning rate: %g", rate)
    unset = [type(stage).__name__ for stage in (*rule.stages, rule.last) if stage.uses_f and not stage.f]
    if unset:
        log(
            WARNING,
            "\t│\t    num_malicious_nodes is 0, so %s tolerates no malicious node: set it to their number",
            ", ".join(unset),
        )
    for caution in cautions(rule.stages, rule, num_malicious_nodes, min_nodes):
        log(WARNING, "\t│\t    %s", caution)
    if suspicion is not None and suspicion.exclude_after and not num_malicious_nodes:
        log(WARNING, "\t│\t    num_malicious_nodes is 0, so exclude_after excludes nobody: set it")
