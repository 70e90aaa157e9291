"""The generated pages: one for each rule of the registry, one with all attacks, and what else their modules hold."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import masking
import pictures
import toy
from flwr.serverapp.strategy import Strategy

import clients
import flwr_robust
from clients import attacks
from flwr_robust import rules
from flwr_robust.rules.base import Stage
from simulations.config.listing import KNOWLEDGE

PAPERS = ("NNM", "ARC", "LPA", "MixTailor", "LASA")
_PAPER = re.compile(rf"\b({'|'.join(PAPERS)})\b")
# For what has a heading of its own on the page.
HEADLESS = """    options:
      show_root_heading: false
      show_root_toc_entry: false
"""
# Not merged with the constructor: the source shown is the class.
BODY = f"{HEADLESS}      members: false\n      merge_init_into_class: false\n      show_source: true\n"

OWN_RULES = """
## A rule of your own

Derive from [`CoordinateRule`][flwr_robust.rules.CoordinateRule], [`LinearRule`][flwr_robust.rules.LinearRule],
[`Rule`][flwr_robust.rules.Rule] or [`PreAggregation`][flwr_robust.rules.PreAggregation];
[Architecture](../architecture.md#a-rule) does it step by step. This is what they share.

::: flwr_robust.rules.base.Stage
"""


def all_pages() -> Iterator[tuple[str, str]]:
    """Return the path and the content of each generated file."""
    shown: dict[str, Stage] = {}
    for name, kind in rules.REGISTRY.items():
        stage = toy.make(kind)
        if isinstance(stage, rules.Rule):
            svg, caption = pictures.draw_rule(stage)
        else:
            assert isinstance(stage, rules.PreAggregation)
            svg, caption = pictures.draw_pre_aggregation(stage)
        yield f"rules/{name}.svg", svg
        yield f"rules/{name}.md", rule_page(name, stage, caption)
        shown[name] = stage
    yield "rules/index.md", rules_index(shown)
    yield from attack_pages()
    yield "api/rules.md", others("flwr_robust.rules", rules.__all__, list(rules.REGISTRY.values())) + OWN_RULES
    yield "api/strategies.md", strategies_page()
    yield "api/clients.md", clients_page()


def rule_page(name: str, stage: Stage, caption: str) -> str:
    """Return the page of a rule or pre-aggregation."""
    kind = type(stage)
    title = kind.__name__
    strategy = f" As a strategy: [`flwr_robust.{title}`][flwr_robust.{title}]." if hasattr(flwr_robust, title) else ""
    return f"""{heading(1, f"flwr_robust.rules.{title}", kind)}

{facts_table({name: stage}, link=False)}

In a chain: `{name}`.{strategy}

{figure(f"{name}.svg", title, caption)}

{masking.sentence(stage)}

```python
rules.{title}{signature(kind)}
```

::: flwr_robust.rules.{title}
{BODY}"""


def signature(kind: type) -> inspect.Signature:
    """Return a constructor's signature without types, which its docstring has."""
    return inspect.Signature([p.replace(annotation=p.empty) for p in inspect.signature(kind).parameters.values()])


def rules_index(stages: dict[str, Stage]) -> str:
    """Return the page that shows all rules at a glance."""
    kinds: dict[str, dict[str, Stage]] = {
        "Rules": {name: stage for name, stage in stages.items() if isinstance(stage, rules.Rule)},
        "Pre-aggregations": {name: stage for name, stage in stages.items() if isinstance(stage, rules.PreAggregation)},
    }
    parts = [
        "# Rules\n",
        f"Each picture is drawn by the rule itself, on {len(toy.HONEST)} honest updates and {toy.F} outliers in the "
        "plane: the ring is the mean of the honest ones, which a rule should come near; the grey cross is the mean of "
        "all; the green star is what the rule makes of them. Outlines are updates that the rule leaves out.\n",
    ]
    for title, chosen in kinds.items():
        cards = "\n".join(
            f"[![{type(s).__name__} on the toy cloud]({name}.svg){{ loading=lazy }} {type(s).__name__}]({name}.md)\n"
            for name, s in chosen.items()
        )
        parts += [f'## {title}\n\n<div class="gallery" markdown>\n\n{cards}\n</div>\n', facts_table(chosen) + "\n"]
    return "\n".join(parts)


def facts_table(stages: dict[str, Stage], link: bool = True) -> str:
    """Return facts about rules, as a Markdown table."""
    lines = [
        "| " + ("rule | " if link else "") + f"needs | rows, f = {toy.F} | breakdown | cost in passes | source |",
        "|" + "---|" * (5 + link),
    ]
    for name, stage in stages.items():
        least = stage.min_rows if isinstance(stage, rules.Rule) else stage.least_rows(toy.F)
        cells = [f"[{type(stage).__name__}]({name}.md)"] if link else []
        cells += [f"{stage.requirement}", f"{least} or more", stage.breakdown, stage.cost, source(stage)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def source(stage: Stage) -> str:
    """Return where a rule comes from, with links to the papers."""
    return _PAPER.sub(lambda found: f"[{found[1]}](../papers.md#{found[1].lower()})", stage.source)


def attack_pages() -> Iterator[tuple[str, str]]:
    """Return the page with all attacks, and their pictures."""
    parts = [
        "# Attacks\n",
        f"What {toy.F} malicious nodes send beside {len(toy.HONEST)} honest ones, and how far that moves the mean "
        "(grey cross) and the trimmed mean (green star) from the mean of the honest updates (ring).\n",
    ]
    for name, kind in attacks.REGISTRY.items():
        title = kind.__name__
        parts.append(heading(2, f"clients.attacks.{title}", kind) + "\n")
        drawn = pictures.draw_attack(kind)
        if drawn:
            yield f"attacks/{name}.svg", drawn[0]
            parts.append(figure(f"{name}.svg", title, drawn[1]) + "\n")
        parts.append(f"In a run: `{name}`. What it must know: {KNOWLEDGE[kind.knows]}.\n")
        parts.append(f"::: clients.attacks.{title}\n{BODY}")
    yield "attacks/index.md", "\n".join(parts)
    yield "api/attacks.md", others("clients.attacks", attacks.__all__, list(attacks.REGISTRY.values()))


def others(module: str, names: list[str], elsewhere: list[type]) -> str:
    """Return the page of a module without what has pages of its own."""
    left = [name for name in names if name not in {kind.__name__ for kind in elsewhere}]
    return f"# {module}\n\n::: {module}\n{HEADLESS}      members: [{', '.join(left)}]\n"


def strategies_page() -> str:
    """Return the page of all strategies, with what they have in common first."""
    shared = "flwr_robust.RobustStrategy"
    named = [name for name in flwr_robust.__all__ if _is_strategy(name) and name not in shared]
    own = "\n".join(f"::: flwr_robust.{name}\n" for name in named)
    return f"""# flwr_robust.strategies

Import these names from `flwr_robust`. Each takes the parameters of its rule, `num_malicious_nodes`, the keyword
arguments of Flower's `FedAvg`, and the options below. `FedMedian` is another name of `Median`.

::: {shared}

::: flwr_robust.strategies.options.Options

::: flwr_robust.strategies.options.OwnOptions

::: flwr_robust.strategies.options.WrapperOptions

::: flwr_robust.strategies.options.RecordOptions

::: flwr_robust.strategies.robust.PreAggregationStrategy
    options:
      members: false

::: flwr_robust.ConfigurationError

{own}"""


def clients_page() -> str:
    """Return the page of the package clients without its attacks."""
    names = [name for name in clients.__all__ if not inspect.ismodule(getattr(clients, name))]
    return f"""# clients

The package has two names. `flwr_robust.clients` always works; `clients` is shorter, where your project has no package
of that name. There is one module of each, whatever it is imported as.

::: clients
{HEADLESS}      show_docstring_description: false
      members: false

{"".join(f"::: clients.{name}{chr(10) * 2}" for name in names)}
::: clients.mods
"""


def _is_strategy(name: str) -> bool:
    """Whether flwr_robust holds a strategy of this name, and of no other."""
    thing = getattr(flwr_robust, name)
    return isinstance(thing, type) and issubclass(thing, Strategy) and thing.__name__ == name


def heading(level: int, path: str, kind: type) -> str:
    """Return a heading that links lead to, by the component's public path and by that of its own module."""
    # The attacks' modules have two names; links go by the shorter one.
    own = f"{kind.__module__}.{kind.__name__}".replace("flwr_robust.clients.", "clients.")
    return f"{'#' * level} {kind.__name__} {{ #{path} }}\n\n[](){{ #{own} }}"


def figure(path: str, title: str, caption: str) -> str:
    """Return a picture with its caption."""
    return (
        f'<figure class="cloud" markdown>\n![{title} on the toy cloud]({path}){{ loading=lazy }}\n'
        f"<figcaption markdown>{caption}</figcaption>\n</figure>"
    )
