"""Formulas as inline SVG, set at build time: readers load no script, and see the same glyphs everywhere."""

from __future__ import annotations

import html
import re
from functools import cache

from ziamath.config import config
from ziamath.zmath import Latex

# What pymdownx.arithmatex makes of $...$ and $$...$$ in its generic mode.
_ARITHMATEX = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
SIZE = 17

# Paths instead of shared symbols: their ids would meet those of the next formula on the page.
config.svg2 = False


def typeset(page: str) -> str:
    """Return a page's HTML with its formulas drawn."""
    return _ARITHMATEX.sub(lambda found: _draw(found[1], html.unescape(found[2]).strip()), page)


@cache
def _draw(tag: str, latex: str) -> str:
    inline = tag == "span"
    formula = Latex(" ".join(latex.split()), size=SIZE, color="currentColor", inline=inline)
    label = html.escape(latex)
    svg = formula.svg().replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    shift = f' style="vertical-align: {formula.getyofst():.2f}px"' if inline else ""
    return f'<{tag} class="formula"{shift}>{svg}</{tag}>'
