"""The commands of a page, so that tests run what readers are told to run."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.deployment.flower import flower_environment

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Recipe:
    """The code of one section of ``docs/deploy.md``, in a folder and at addresses of the test's own.

    Parameters
    ----------
    section : str
        Its heading.
    folder : Path
        Where its commands run; also Flower's home.
    replace : mapping of str to str
        What stands for the addresses, ports and folders of the page.
    """

    def __init__(self, section: str, folder: Path, replace: Mapping[str, str]) -> None:
        page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
        (text,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        self.folder, self._replace = folder, dict(replace)
        self._code = FENCE.findall(text)
        self._unused = [command for language, code in self._code if language == "bash" for command in _commands(code)]
        self._all = list(self._unused)

    @property
    def unused(self) -> list[str]:
        """Commands of the section that nobody asked for."""
        return self._unused

    def toml(self) -> str:
        """Return the section's piece of ``config.toml``."""
        (code,) = (code for language, code in self._code if language == "toml")
        return self._adapt(code)

    def command(self, *has: str, node: int = 0) -> str:
        """Return the one command that has these words, for a node's own number, port and key.

        Raises
        ------
        AssertionError
            If none of the section's commands has them, or several have.
        """
        found = [command for command in self._all if all(word in command for word in has)]
        assert len(found) == 1, f"{len(found)} commands have {has}: {found}"
        self._unused = [command for command in self._unused if command != found[0]]
        command = found[0].replace("partition-id=0", f"partition-id={node}").replace("supernode-0", f"supernode-{node}")
        return self._adapt(command.replace("9100", str(9100 + node)))

    def run(self, *has: str, node: int = 0, timeout: float = 60.0) -> str:
        """Run a command and return what it printed.

        Raises
        ------
        AssertionError
            If it fails.
        """
        finished = subprocess.run(
            ["bash", "-c", self.command(*has, node=node)],
            cwd=self.folder,
            env=flower_environment(self.folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout
        assert "DEPRECATED FEATURE" not in finished.stdout
        return finished.stdout

    def _adapt(self, text: str) -> str:
        for old, new in self._replace.items():
            text = text.replace(old, new)
        return text


def _commands(code: str) -> list[str]:
    """Return the commands of a block, one a line, continued lines joined."""
    return re.sub(r"\\\n\s*", "", code).splitlines()
