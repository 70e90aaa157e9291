"""The documentation builds without a warning, its links lead somewhere, and each rule has its page."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from clients import attacks
from flwr_robust import rules

ROOT = Path(__file__).parent.parent
pytest.importorskip("mkdocs", reason="the docs extra is not installed")


class Page(HTMLParser):
    """Ids of a page, what it links to, what it loads, and its text."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.text, self.formulas = set(), [], [], [], {}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag in ("link", "script", "img"):
            self.loads += [given[key] for key in ("href", "src") if given.get(key)]
        if tag == "svg" and "aria-label" in given:
            self.formulas[" ".join(given["aria-label"].split())] = float(given["height"])

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    # The 404 page stands for addresses of any depth, so its links are absolute.
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_link_leads_to_a_page_and_a_place_on_it(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = target.is_file() and (
                not parts.fragment or target.suffix != ".html" or unquote(parts.fragment) in pages[target].ids
            )
            if not there:
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for path, page in pages.items():
        for address in page.loads:
            if address.startswith("data:"):
                continue
            parts = urlsplit(address)
            assert not parts.netloc, address
            assert (path.parent / unquote(parts.path)).is_file(), address
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text()), sheet


@pytest.mark.parametrize("name", rules.REGISTRY)
def test_each_rule_has_a_page(site, pages, name):
    kind = rules.REGISTRY[name]
    page = pages[site / "rules" / f"{name}.html"]
    text = re.sub(r"\s+", " ", "".join(page.text))
    formula = re.search(r"\$\$(.+?)\$\$", kind.__doc__, re.DOTALL)
    assert formula, f"{kind.__name__} has no formula: give its docstring one, between $$ and $$"
    assert page.formulas[" ".join(formula[1].split())] < 100  # pixels: brackets that were stretched for ever have more
    assert f"{name}.svg" in page.loads
    assert (site / "rules" / f"{name}.svg").read_text().count("<use") > 15  # as many points as the cloud has
    stage = kind() if name != "static-clipping" else kind(max_norm=1.0)
    for fact in (stage.requirement, stage.cost, stage.source, stage.breakdown):
        assert fact
        assert fact in text


def test_each_attack_has_a_place(site, pages):
    page = pages[site / "attacks" / "index.html"]
    for name, kind in attacks.REGISTRY.items():
        assert f"clients.attacks.{kind.__name__}" in page.ids
        drawn = kind.makes_updates and name != "non-finite"
        assert (f"{name}.svg" in page.loads) == drawn


@pytest.mark.parametrize("name", ["flwr_robust.Krum", "flwr_robust.rules.Krum", "flwr_robust.rules.chain",
                                  "flwr_robust.RoundReport", "clients.Adversary", "clients.mods.SignFlip",
                                  "clients.attacks.Attack"])  # fmt: skip
def test_public_names_are_described(pages, name):
    assert any(name in page.ids for page in pages.values())


def test_the_readme_tells_the_same_costs_and_sources():
    told = {}
    for line in (ROOT / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 8 and (named := re.match(r"`(\w+)`", cells[2])):
            told[named[1]] = (cells[5], cells[6])
    for kind in rules.REGISTRY.values():
        assert told[kind.__name__] == (kind.cost, kind.source)
