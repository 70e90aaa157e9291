"""The documentation builds without a warning, its links lead somewhere, and each rule has its page."""

from __future__ import annotations

import importlib
import inspect
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
    # What `make docs` does, in the environment that runs the tests and without bringing it up to date.
    given = [f"BIN={Path(sys.executable).parent}", f"SITE={folder}"]
    built = subprocess.run(["make", "--old-file=.venv/docs", "docs", *given], cwd=ROOT, capture_output=True, text=True)
    told = built.stdout + built.stderr
    assert built.returncode == 0, told
    assert "Documentation built" in told
    assert not re.search("WARNING|ERROR", told), told
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


def test_flowcharts_are_drawn(site):
    page = (site / "architecture.html").read_text()
    drawn = page.partition('<figure class="diagram">')[2].partition("</figure>")[0]
    assert drawn.startswith("<svg")
    assert all(words in drawn for words in (">strategies<", ">14 report.py<", ">measure, then<"))
    # The theme fetches a script from elsewhere where it finds this word.
    assert not any("mermaid" in path.read_text() for path in site.rglob("*.html"))


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


@pytest.mark.parametrize("package", ["flwr_robust", "flwr_robust.rules", "clients", "clients.attacks"])
def test_public_names_are_described(pages, package):
    ids = set().union(*(page.ids for page in pages.values()))
    module = importlib.import_module(package)
    public = {name: getattr(module, name) for name in module.__all__}
    # Modules have pages of their own, and a second name of a class is told of on the page of the first.
    names = [name for name, what in public.items() if getattr(what, "__name__", name) == name]
    assert [name for name in names if f"{package}.{name}" not in ids and not inspect.ismodule(public[name])] == []
    assert {"clients.mods.SignFlip", "flwr_robust.legacy.FedTrimmedAvg"} <= ids


@pytest.mark.parametrize("name", ["Krum", "Bulyan", "FABA", "LASA", "ARC", "Bucketing"])
def test_strategies_show_the_parameters_of_their_rules(site, pages, name):
    told = " ".join("".join(pages[site / "api" / "strategies.html"].text).split())
    of_rule = inspect.getdoc(getattr(rules, name)).partition("Parameters\n")[2].partition("\n\n")[0]
    described = [line.strip() for line in of_rule.splitlines() if line.startswith("    ")]
    assert described
    own = [line.replace("`", "") for line in described if "Rows that may be malicious" not in line]
    assert [line for line in own if line not in told] == []
