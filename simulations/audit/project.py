"""The Flower project that is audited: what its pyproject.toml says, and the copy that is run."""

from __future__ import annotations

import hashlib
import re
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click import ClickException
from flwr.common.config import flatten_dict, parse_config_args

from simulations.wording import unknown

# Folders that no app needs to run.
LEFT_OUT = (".git", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")
# Names of packages in the process that runs the app; two of one name do not go together.
OURS = ("clients", "simulations")
# Keys by which apps commonly say how many rounds they train.
ROUNDS = ("num-server-rounds", "num-rounds", "num_server_rounds", "num_rounds", "server-rounds", "rounds")
# How an app lets its training data be poisoned.
POISONABLE = re.compile(r"\b(poisoned_labels|poisoned|PoisonedDataset)\s*\(")


class AuditError(ValueError):
    """What cannot be audited; the text says why and what to do."""


@dataclass(frozen=True)
class Project:
    """A Flower project."""

    folder: Path
    """Where its pyproject.toml is."""
    name: str
    """What it is called."""
    server: str
    client: str
    """References to its components, as ``package.module:app``."""
    config: dict[str, Any]
    """Its run-config."""

    @property
    def poisonable(self) -> bool:
        """Whether a line of the app lets data attacks reach its training data."""
        return any(POISONABLE.search(path.read_text(errors="replace")) for path in self.sources())

    def sources(self) -> list[Path]:
        """Return the project's Python files."""
        found = (path for path in self.folder.rglob("*.py") if not set(path.parts) & set(LEFT_OUT))
        return sorted(found)

    def fingerprint(self) -> str:
        """Return what changes with any of the project's Python files."""
        digest = hashlib.sha256()
        for path in self.sources():
            digest.update(str(path.relative_to(self.folder)).encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()[:16]

    def copy_to(self, folder: Path, without: Path) -> Path:
        """Copy the project, so that whatever the app writes stays out of the user's folder.

        Parameters
        ----------
        folder : Path
            A temporary folder.
        without : Path
            A folder of the project that is left out: that of the results.
        """

        def left_out(parent: str, names: list[str]) -> set[str]:
            return {name for name in names if name in LEFT_OUT or (Path(parent) / name).resolve() == without.resolve()}

        return Path(shutil.copytree(self.folder, folder / "app", ignore=left_out, symlinks=True))


def read_project(path: Path) -> Project:
    """Read what a project's pyproject.toml says of it.

    Raises
    ------
    AuditError
        If it is no Flower project, or cannot be audited.
    """
    folder = path.expanduser().resolve()
    file = folder / "pyproject.toml"
    if not file.is_file():
        raise AuditError(
            f"{path} has no pyproject.toml; give the folder of a Flower project, where `flwr run .` works."
        )
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise AuditError(f"{file} cannot be read: {error}.") from error
    app = content.get("tool", {}).get("flwr", {}).get("app", {})
    components = app.get("components", {})
    for name in ("serverapp", "clientapp"):
        reference = components.get(name)
        if not isinstance(reference, str) or not re.fullmatch(r"[\w.]+:[\w.]+", reference):
            raise AuditError(
                f"{file} names {name} = {reference!r} under [tool.flwr.app.components]; a Flower project has a line "
                f'like {name} = "package.module:app" there.'
            )
        if reference.split(":")[0].split(".")[0] in OURS:
            raise AuditError(
                f"the project's own package {reference.split(':')[0].split('.')[0]!r} has the name of one of ours and "
                "cannot be loaded beside it; audit a copy with another name."
            )
        _require_module(folder, name, reference)
    config = flatten_dict(app.get("config", {}))
    project = str(content.get("project", {}).get("name", folder.name))
    return Project(folder, project, components["serverapp"], components["clientapp"], dict(config))


def _require_module(folder: Path, name: str, reference: str) -> None:
    place = folder.joinpath(*reference.split(":")[0].split("."))
    source = place.parent / "src"
    if not place.with_suffix(".py").is_file() and not (place / "__init__.py").is_file() and not source.is_dir():
        raise AuditError(
            f"{folder / 'pyproject.toml'} names {name} = {reference!r}, but there is no {place.with_suffix('.py')}."
        )


def with_run_config(project: Project, given: list[str], rounds: int | None) -> dict[str, Any]:
    """Return the run-config of an audit: the project's, what `--run-config` changes, and the number of rounds.

    Raises
    ------
    AuditError
        If a key is none of the project's, as `flwr run` would say, or the text cannot be read.
    """
    try:
        overrides = parse_config_args(given)
    except (ClickException, ValueError, OSError) as error:
        text = error.message if isinstance(error, ClickException) else error
        raise AuditError(f"--run-config {' '.join(given)!r} cannot be read: {text}") from error
    for key in overrides:
        if key not in project.config:
            raise AuditError(unknown(f"--run-config: the key {key!r}", key, project.config))
    config = {**project.config, **overrides}
    known = next((key for key in ROUNDS if key in config), None)
    if rounds is not None and known is not None:
        config[known] = rounds
    return config
