"""Would the tests notice? Change the code in small ways, one at a time, and see whether a test fails: ``make mutants``.

Cosmic-ray makes the changes, in a copy of the project. A sample of all places is drawn with a seed, each package
with its share; annotations are left out, which nothing evaluates. For each change the tests of its module run first,
and those of its package next. What survives is printed as a diff, and written to ``results/mutants.json``.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rules", "engine", "messages", "record", "strategies")
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "__pycache__", "results", "site", ".hypothesis", ".*_cache", "build", "dist"
)
# What tests of a package, beside those in its own folder, would tell of a mistake in it.
BESIDE = {
    "rules": ["tests/strategies/test_cautions.py", "tests/strategies/test_float64.py"],
    "engine": ["tests/rules/test_every_rule.py", "tests/strategies/test_machine.py"],
    "messages": ["tests/strategies", "tests/legacy"],
    "record": ["tests/strategies/test_exclusion.py", "tests/strategies/test_machine.py"],
    "strategies": ["tests/legacy"],
}
# They take minutes each, and look at whole processes.
SLOW = ["tests/strategies/test_fuzz.py", "tests/strategies/test_hostile_memory.py", "tests/strategies/test_memory.py"]
PYTEST = "-m pytest -q -x -W ignore -p no:cacheprovider -o addopts= --import-mode=importlib"


def main() -> None:
    """Draw the sample, test it, print the scores."""
    options = _parser().parse_args()
    begun, results = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        os.chdir(copy)
        os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "FLWR_TELEMETRY_ENABLED": "0"}
        os.environ.pop("PYTHONPATH", None)  # which may hold Cosmic-ray's packages
        for mutation in sample(options.sample, options.seed, options.packages):
            if time.monotonic() - begun > 60 * options.minutes:
                break
            results.append(outcome_of(mutation, options.python, options.timeout))
            print(json.dumps({key: value for key, value in results[-1].items() if key != "diff"}), flush=True)
    out = ROOT / "results" / "mutants.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    report(results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=200, help="changes to make")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--minutes", type=float, default=600, help="stop after so long, with what has been found")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for the tests of a change")
    parser.add_argument("--packages", nargs="+", default=PACKAGES, choices=PACKAGES)
    parser.add_argument("--python", default=sys.executable, help="that has the project's test packages")
    return parser


# ---------------------------------------------------------------- the sample


def sample(count: int, seed: int, packages: Iterable[str]) -> list[MutationSpec]:
    """Draw places to change, as many of each package as it has a share in all, and one change for each."""
    rng, places = random.Random(seed), {package: places_of(package) for package in packages}
    total = sum(map(len, places.values()))
    drawn = []
    for mine in places.values():
        share = min(len(mine), max(1, round(count * len(mine) / total)))
        drawn += [rng.choice(changes) for changes in rng.sample(mine, share)]
    # In random order, so that a run that is stopped has a fair part of them.
    rng.shuffle(drawn)
    return drawn


def places_of(package: str) -> list[list[MutationSpec]]:
    """Return what can be changed at each place of a package."""
    places = defaultdict(list)
    for path in sorted(Path("flwr_robust", package).rglob("*.py")):
        unused = list(annotations(path))
        for item in _all_work_items([path], {}):
            (change,) = item.mutations
            if change.operator_name != "core/NoOp" and not any(a <= change.start_pos <= b for a, b in unused):
                places[path, change.start_pos, change.end_pos].append(change)
    return list(places.values())


def annotations(path: Path) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Return where annotations begin and end, and imports for them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for name in ("annotation", "returns"):
            found = getattr(node, name, None)
            if isinstance(found, ast.AST):
                yield (found.lineno, found.col_offset), (found.end_lineno or 0, found.end_col_offset or 0)


# ---------------------------------------------------------------- one change


def outcome_of(mutation: MutationSpec, python: str, timeout: float) -> dict[str, object]:
    """Make a change, run the tests, take it back."""
    begun = time.monotonic()
    path = Path(mutation.module_path)
    done = mutate_and_test([mutation], command(path, python), timeout)
    if done.worker_outcome is not WorkerOutcome.NORMAL:
        outcome = "impossible"
    elif done.output == "timeout":
        outcome = "out of time"
    else:
        outcome = "survived" if done.test_outcome is TestOutcome.SURVIVED else "noticed"
    return {
        "module": str(path),
        "package": path.parts[1],
        "line": mutation.start_pos[0],
        "operator": mutation.operator_name.removeprefix("core/"),
        "outcome": outcome,
        "by": [line for line in (done.output or "").splitlines() if line.startswith(("FAILED", "ERROR"))][:1],
        "seconds": round(time.monotonic() - begun, 1),
        "diff": done.diff,
    }


def command(path: Path, python: str) -> str:
    """Return the tests that would tell: those of the module, then those of what stands around it."""
    package, own = path.parts[1], Path("tests", *path.parts[1:-1], f"test_{path.name}")
    folder = Path("tests", package)
    without = " ".join(f"--ignore={slow}" for slow in SLOW)
    steps = [f"{own}"] if own.exists() else []
    if package == "rules" and path.stem.replace("_", "-") in one_rule_files():
        every = "tests/rules/test_every_rule.py tests/rules/test_every_memory.py"
        steps += [f"{every} -k {path.stem.replace('_', '-')}", "tests/rules/test_theory.py"]
    else:
        steps += [f"{folder} {without}"]
    steps += [f"{beside} {without}" for beside in BESIDE[package]]
    return f"bash -c {shlex.quote(' && '.join(f'{python} {PYTEST} {step}' for step in steps))}"


def one_rule_files() -> set[str]:
    """Return the names of rules that have a file of their own."""
    text = Path("flwr_robust", "rules", "__init__.py").read_text(encoding="utf-8")
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    names = {node.module.rpartition(".")[2].replace("_", "-") for node in found if node.module}
    return names - {"base", "registry", "run", "theory", "whatif", "checks"}


# ---------------------------------------------------------------- what came of it


def report(results: list[dict[str, object]]) -> None:
    """Print the score of each package, and the survivors."""
    for result in results:
        if result["outcome"] == "survived":
            print(f"\n{result['diff']}")
    print("\n| package | changes | noticed | survived | out of time | score |\n|---|---|---|---|---|---|")
    for package in (*PACKAGES, "all"):
        mine = [result["outcome"] for result in results if package in ("all", result["package"])]
        noticed, survived, late = (mine.count(outcome) for outcome in ("noticed", "survived", "out of time"))
        score = f"{noticed / (noticed + survived):.0%}" if noticed + survived else ""
        print(f"| {package} | {noticed + survived + late} | {noticed} | {survived} | {late} | {score} |")


if __name__ == "__main__":
    main()
