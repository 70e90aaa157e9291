"""A strategy's `report_path` as CSV: a line for each node and round, and one for each candidate and round."""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from pathlib import Path

from flwr_robust.record.fates import ReportError
from flwr_robust.record.report import CandidateReport, NodeReport, read_reports

NODES = ["round", "node", *(field.name for field in fields(NodeReport))]
CANDIDATES = ["round", "candidate", *(field.name for field in fields(CandidateReport)), "step_norm"]


def export(path: Path, name: str, folder: Path) -> list[Path]:
    """Write NAME-nodes.csv and, where candidates were observed, NAME-candidates.csv; return the files.

    Reports are read one by one: a file of any size takes the memory of one round.

    Parameters
    ----------
    path : Path
        The reports.
    name : str
        What the files are called.
    folder : Path
        Where they are written.

    Raises
    ------
    ReportError
        If a line is no report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    nodes, candidates = folder / f"{name}-nodes.csv", folder / f"{name}-candidates.csv"
    observed = False
    with nodes.open("w", newline="") as one, candidates.open("w", newline="") as other:
        of_nodes, of_candidates = csv.DictWriter(one, NODES), csv.DictWriter(other, CANDIDATES)
        of_nodes.writeheader()
        of_candidates.writeheader()
        try:
            for report in read_reports(path):
                observed = observed or bool(report.candidates)
                for node_id, node in report.nodes.items():
                    of_nodes.writerow({"round": report.round, "node": node_id, **asdict(node)})
                for candidate, found in report.candidates.items():
                    row = asdict(found) | {"left_out": " ".join(map(str, found.left_out))}
                    beside = {"round": report.round, "candidate": candidate, "step_norm": report.step_norm}
                    of_candidates.writerow(beside | row)
        except ValueError as error:
            raise ReportError(f"{error}.") from error
    if observed:
        return [nodes, candidates]
    candidates.unlink()
    return [nodes]
