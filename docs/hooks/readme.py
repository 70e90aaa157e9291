"""README's table of rules, made from the registry: ``make readme`` writes it, a test says when it is old."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import toy

from flwr_robust import rules
from flwr_robust.rules.base import Stage
from flwr_robust.rules.histories import NODES
from flwr_robust.rules.randomness import DRAWS
from flwr_robust.rules.run import COLUMNS

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- rules: written by `make readme` from flwr_robust/rules -->\n", "<!-- end of rules -->\n"


def main() -> None:
    """Write the table into the README; with ``--check`` only say whether it is there, by the exit status."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = before + BEGIN + rules_table() + END + after
    if "--check" in sys.argv[1:]:
        sys.exit(0 if made == text else f"The rules in {README.name} are not those of flwr_robust.rules: make readme")
    README.write_text(made, encoding="utf-8")


def rules_table() -> str:
    """Return what the classes say of themselves, as a Markdown table."""
    lines = ["| | name | what it does | needs | breakdown | cost in passes | source |", "|---|---|---|---|---|---|---|"]
    kind = ""
    for stage_class in rules.REGISTRY.values():
        stage = toy.make(stage_class)
        new = "rules" if isinstance(stage, rules.Rule) else "pre-aggregations"
        first, kind = ("" if new == kind else new), new
        facts = [stage.requirement, stage.breakdown, stage.cost, stage.source]
        cells = " | ".join([f"`{stage_class.__name__}`", what_it_does(stage_class), *facts])
        lines.append(f"| {first} | {cells} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def what_it_does(kind: type[Stage]) -> str:
    """Return the first line of the docstring, and what parameters and memory say beside it."""
    line = inspect.getdoc(kind).splitlines()[0].rstrip(".").replace("``", "`")
    parameters = inspect.signature(kind).parameters
    nodes = NODES in kind.remembers
    kept = [name for name in kind.remembers if name not in (DRAWS, COLUMNS, "calls")]
    more = [
        "other lp norms too" if "p" in parameters else "",
        "remembers nodes" if nodes else f"keeps its {' and '.join(kept)}" if kept else "",
        "counts its calls" if "calls" in kind.remembers and not nodes else "",
        "takes a seed" if "seed" in parameters else "",
    ]
    return "; ".join([line, *filter(None, more)])


if __name__ == "__main__":
    main()
