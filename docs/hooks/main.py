"""MkDocs hooks: add the generated pages, and draw flowcharts and formulas."""

from __future__ import annotations

from typing import Any

import diagrams
import formulas
import pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made from the registries of rules and attacks."""
    for path, content in pages.all_pages():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Draw the flowcharts of a page."""
    return diagrams.draw_all(markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Draw the formulas of a page."""
    return formulas.typeset(html)
