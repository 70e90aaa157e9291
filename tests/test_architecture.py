"""The page on the architecture tells the way that a round takes, and its links lead to files."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from flwr_robust import ARC, NNM, TrimmedMean

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
REPOSITORY = "https://github.com/flwr-robust/flwr-robust"


def reply(seed):
    arrays = ArrayRecord({"w": Array(np.random.default_rng(seed).standard_normal(40).astype(np.float32))})
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1.0})})
    message = Mock(spec=Message, content=content)
    message.has_error.return_value, message.has_content.return_value = False, True
    return message


def files_of_a_round():
    """Files of flwr_robust, in the order in which a round enters them."""
    strategy = ARC(NNM(TrimmedMean(num_malicious_nodes=1)))
    strategy.aggregate_train(1, [reply(seed) for seed in range(6)])  # what happens once only is none of a round's
    entered = {}

    def note(frame, event, argument):
        parts = Path(frame.f_code.co_filename).parts
        if event == "call" and "flwr_robust" in parts and "site-packages" not in parts:
            entered.setdefault("/".join(parts[len(ROOT.parts) + 1 :]))

    sys.setprofile(note)
    try:
        strategy.aggregate_train(2, [reply(seed) for seed in range(6)])
    finally:
        sys.setprofile(None)
    return list(entered)


def test_the_walk():
    told = re.findall(r"^\d+\. \[`([\w/.]+)`\]", PAGE, re.MULTILINE)
    assert len(told) == 14
    # From Python 3.12 on profilers see no compiled code.
    hidden = "kernels" if sys.version_info >= (3, 12) else "nothing"
    assert [f for f in files_of_a_round() if hidden not in f] == [f for f in told if hidden not in f]


def test_the_picture_numbers_the_same_files():
    picture = PAGE.partition("```mermaid")[2].partition("```")[0]
    boxes = re.findall(r'\["(\w+)<br>(.*?)"\]', picture)
    numbered = {int(n): f"{wing}/{file}" for wing, text in boxes for n, file in re.findall(r"(\d+) ([\w/.]+)", text)}
    assert [numbered[n] for n in sorted(numbered)] == re.findall(r"^\d+\. \[`([\w/.]+)`\]", PAGE, re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs"])
def test_links_into_the_repository_lead_to_files(page):
    pages = [ROOT / page] if page.endswith(".md") else sorted((ROOT / page).glob("*.md"))
    broken = []
    for path in pages:
        text = path.read_text()
        links = re.findall(rf"\]\({REPOSITORY}/(?:blob|tree)/main/([\w./-]+)\)", text)
        beside = re.findall(r"\]\((?!https?:|#)([\w./-]+)", text) if path.parent == ROOT else []
        broken += [f"{path.name}: {link}" for link in [*links, *beside] if not (ROOT / link).exists()]
    assert broken == []
