"""Reports as files: a page that needs nothing else, Markdown, pictures, an index; and the command that writes them."""

import re
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from simulations.cli import app
from simulations.reports.write import write_reports
from tests.simulations.reports.sweeps import write_sweep

SECTIONS = """
[table]
rows = ["defense"]
columns = ["attack"]
[[figure]]
kind = "bars"
x = "attack"
lines = "defense"
"""
EMPTY = {"meta", "img", "source", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Reads a page, and keeps what it loads, what it links to and what is open."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.links, self.open, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.loaded += [given[name] for name in ("src", "srcset", "data", "poster") if name in given]
        self.links += [given["href"]] if "href" in given else []
        assert tag not in {"script", "link", "iframe", "object"}
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def write(folder, toml, result, sections=SECTIONS, **options):
    write_sweep(folder, toml + sections, result, **options)
    written = write_reports([folder], folder)
    assert written.errors == []
    return (folder / "report.html").read_text(encoding="utf-8"), (folder / "report.md").read_text(encoding="utf-8")


def test_the_page_is_one_file_that_loads_nothing(tmp_path, two_rules):
    text, _ = write(tmp_path, *two_rules)
    page = Page(text)
    assert page.open == []
    assert len(page.loaded) == 1  # the picture
    assert all(source.startswith("data:image/png;base64,") for source in page.loaded)
    assert page.links == []
    assert not re.search(r"url\(|@import|https?://", text)
    assert 'name="viewport" content="width=device-width' in text
    assert "@media print" in text
    assert "@media (max-width: 600px)" in text


def test_labels_and_titles_are_escaped(tmp_path, two_rules):
    toml, _ = two_rules
    sharp = toml.replace("Two rules", "<b>Two</b> & |rules|").replace('label = "SF"', "label = '<img src=x> | `a`'")
    html, markdown = write(tmp_path, sharp, lambda labels: 0.5)
    page = Page(html)
    assert "<b>Two</b> & |rules|" in page.words
    assert "<img src=x> | `a`" in page.words
    assert "x" not in page.loaded
    assert "# &lt;b&gt;Two&lt;/b&gt; &amp; \\|rules\\|" in markdown
    header = next(line for line in markdown.splitlines() if line.startswith("| Defence"))
    assert len(re.findall(r"(?<!\\)\|", header)) == 5


NUMBERS = """
[table]
compare-along = "rows"
rows = ["defense"]
columns = ["attack"]
worst-case = "attack"
[[paper-numbers]]
where = { defense = "Krum", attack = "ALIE" }
value = 43.25
spread = 1.3
[[paper-numbers]]
where = { defense = "Krum", attack = "SF" }
value = 91
"""


def test_markdown_and_page_hold_the_same_entries(tmp_path, two_rules):
    html, markdown = write(tmp_path, *two_rules, NUMBERS)
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert lines[0] == "| Defence | No attack | ALIE | SF | Worst case |"
    assert lines[2] == (
        "| Krum | 95.0 ± 0.0 | **55.0 ± 7.1**<br><sub>paper 43.3 ± 1.3</sub> | **85.0 ± 7.1**<br><sub>paper 91.0</sub> "
        "| **55.0 ± 7.1**<br><sub>ALIE</sub><br><sub>paper 43.3 ± 1.3</sub> |"
    )
    assert '<td class="best "><b>55.0 ± 7.1</b><small class="paper">paper 43.3 ± 1.3</small></td>' in html
    assert html.count("<td") == 8


TWO_AXES = """
title = "Two axes down, two across"
[parameters]
[grid]
alpha = [0.1, 1]
defense = ["Krum", "Median", "GM"]
f = [{ label = 1 }, { label = 2 }]
attack = ["ALIE", "SF"]
[table]
rows = ["alpha", "defense"]
columns = ["f", "attack"]
block-size = 2
"""


def test_outer_axes_are_headings_of_columns_and_of_blocks(tmp_path):
    html, markdown = write(tmp_path, TWO_AXES, lambda labels: 0.5, "")
    assert html.count('<th scope="colgroup" colspan="2">f = ') == 2
    assert html.count('<th scope="col" colspan="1">ALIE</th>') == 2
    assert html.count('<tr class="block"><th colspan="5"><span>α = ') == 2  # noqa: RUF001
    assert html.count('<tr class="start">') == 3  # GM begins a block of its own, and what follows it
    rows = [line.split("|")[1:3] for line in markdown.splitlines() if line.startswith("|")][2:]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["0.1", "Krum"], ["", "Median"], ["", "GM"], ["1", "Krum"], ["", "Median"], ["", "GM"],
    ]  # fmt: skip


def test_the_report_tells_claim_aim_and_what_was_run(tmp_path, two_rules):
    toml, result = two_rules
    lite = '[lite]\nclaim = "Krum is not worse."\n[lite.grid]\nseed = [1]\n'
    html, markdown = write(tmp_path, toml, result, SECTIONS + lite, lite=True, fail=[{"attack": "SF"}])
    for text in (html, markdown):
        assert "Krum is better." in text
        assert "Krum is not worse." in text
        assert "2 cells failed" in text
        assert "4 of 6 finished" in text
        assert "num-malicious = 1" in text
        assert "/somewhere/private" not in text
    assert "![Maximal test accuracy by attack](figure-1-bars.png)" in markdown
    assert (tmp_path / "figure-1-bars.png").read_bytes().startswith(b"\x89PNG")


def test_a_sweep_of_which_all_cells_failed_has_a_report_that_says_so(tmp_path, two_rules):
    html, markdown = write(tmp_path, *two_rules, fail=[{}])
    assert "12 cells failed" in markdown
    assert "<img" not in html


def test_several_reports_have_an_index_by_paper(tmp_path, two_rules):
    toml, result = two_rules
    write_sweep(tmp_path / "one", toml, result)
    write_sweep(tmp_path / "deep" / "two words", toml.replace('paper = "NNM"', 'paper = "ARC"'), result)
    (tmp_path / "broken").mkdir()
    out = tmp_path / "out"
    folders = [tmp_path / "deep" / "two words", tmp_path / "one"]
    written = write_reports(folders, tmp_path, out)
    assert written.index == out / "index.html"
    page = Page(written.index.read_text(encoding="utf-8"))
    assert page.links == ["deep/two%20words/report.html", "one/report.html"]
    assert (out / "deep" / "two words" / "report.html").is_file()
    assert page.loaded == []
    assert [word for word in page.words if word in ("ARC", "NNM")] == ["ARC", "NNM"]
    assert "[Two rules](one/report.md)" in (out / "index.md").read_text(encoding="utf-8")


def test_the_command_writes_reports_and_tells_what_is_missing(tmp_path, two_rules):
    toml, result = two_rules
    write_sweep(tmp_path / "a", toml + SECTIONS, result, leave_out=[{"attack": "SF"}])
    outcome = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert outcome.exit_code == 0, outcome.output
    assert "4 cells of 12 did not run: all with SF." in outcome.output
    assert (tmp_path / "a" / "report.html").is_file()


@pytest.mark.parametrize("good", [True, False])
def test_the_command_goes_on_after_a_sweep_without_a_report(tmp_path, two_rules, good):
    toml, result = two_rules
    write_sweep(tmp_path / "a", toml, result)
    (tmp_path / "a" / "cells.jsonl").write_text("")
    if good:
        write_sweep(tmp_path / "b", toml, result)
    outcome = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert outcome.exit_code == 1
    assert "holds no cell yet" in outcome.output.replace("\n", " ")
    assert (tmp_path / "b" / "report.html").is_file() == good
