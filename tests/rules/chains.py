"""Every rule and chain by name, made alike for each run, and how the outcomes of two runs are compared."""

from __future__ import annotations

from inspect import signature

import numpy as np

from flwr_robust import rules
from flwr_robust.engine.choose import device_for
from flwr_robust.engine.updates import Updates
from flwr_robust.rules.run import run
from flwr_robust.rules.side_inputs import SideInputs
from tests.rules.data import assert_close

N, F = 11, 2
RULES = [name for name, kind in rules.REGISTRY.items() if issubclass(kind, rules.Rule)]
PRE_AGGREGATIONS = [name for name in rules.REGISTRY if name not in RULES]
CHAINS = [before + name for before in ("arc+nnm+", "static-clipping+", "bucketing+") for name in RULES]
# Options with which a rule takes another way through its code.
VARIANTS = [
    "krum p=3",
    "multi-krum p=1e999",
    "geometric-median p=1",
    "geometric-median p=3 max_iterations=5",
    "nnm+krum p=1.5",
    "bulyan selection=mean",
    "bulyan selection=median",
    "bulyan selection=geometric-median",
    "bulyan selection=multi-krum",
    "bulyan p=4",
    "nnm+bulyan selection=mean p=3",
    "centered-clipping tau=1.5 iterations=3",
    "dnc iterations=3 subsample=20",
    "signguard fraction=1.0",
    "nnm+arc+lasa sparsity=0.25",
    "similarity-filter+median cosine=0.0 norm=0.2",
    "norm-clipping std=0.1 max_norm=2.0",
    "flame noise=0.0",
    "foolsgold layer=fc confidence=0.5",
    "foolsgold normalise=False",
    "auror layer=fc threshold=0.5",
    "aksel keep=n-f",
    "simple-clustering radius=5.0 min_rows=2",
    "geometric-median-of-means groups=4",
    "clipped-clustering max_norm=2.0",
    "autogm lam=3.0",
    "crfl std=0.0",
    "rlr threshold=5",
    "slsgd alpha=1.0",
    "fldetector window=2",
    "flanders window=2 subsample=20",
]
EVERY = [*RULES, *CHAINS, *VARIANTS]


# What does not hold for a stage, and why.
KNOWS_ZERO = {
    "arc": "clips norms",
    "static-clipping": "clips norms",
    "signguard": "clips norms, counts signs",
    "sparsefed": "clips norms",
    "centered-clipping": "starts at zero",
    "lasa": "keeps the largest values",
    "lfighter": "compares angles",
    "similarity-filter": "compares angles",
    "cge": "compares norms",
    "clipped-clustering": "clips norms, compares angles",
    "flame": "clips norms, compares angles",
    "fltrust": "compares angles",
    "foolsgold": "compares angles",
    "norm-clipping": "clips norms",
    "crfl": "clips the model",
    "rlr": "counts signs",
    "slsgd": "takes a share",
    "cross-round": "compares angles",
    "flanders": "weighs down what is large",
    "fldetector": "predicts from its outputs",
}
KNOWS_A_SIZE = {
    "static-clipping": "max_norm",
    "centered-clipping tau": "tau",
    "norm-clipping std": "max_norm, std",
    "clipped-clustering max_norm": "max_norm",
    "simple-clustering radius": "radius",
    "auror layer=fc threshold": "threshold",
    "autogm lam": "lam",
    "crfl": "max_norm",
    "flame": "noise has its own sign",
}
READS_LAYERS = {"lasa": "filters layer by layer", "lfighter": "looks at the output layer"}
READS_LAYERS |= {"foolsgold layer": "looks at one layer", "auror layer": "looks at one layer"}
LEAVES_VALUES_OUT = {"lasa": "keeps the largest values", "sparsefed": "keeps the largest values"}
NEEDS_THE_ORDER = {
    "mda": "of several sets of least diameter, which share their farthest pair, it takes the first",
    "geometric-median-of-means": "groups rows that follow each other",
    "arc+nnm+monna": "behind mixing its trusted row is a number",
    "bucketing+monna": "behind mixing its trusted row is a number",
    "static-clipping+cge": "rows clipped to one norm tie",
}
ADDS_TO_THE_ROWS = {
    "sparsefed": "adds what was left over",
    "crfl": "scales the model, too, and adds noise",
    "flame": "adds noise",
    "norm-clipping std": "adds noise",
}
# Equal rows do not come out: twins of each other have no say, and noise, a share or a sign changes them.
CHANGES_EQUAL_ROWS = {
    "foolsgold": "trusts no twins",
    "slsgd": "takes a share",
    "crfl": "clips the model, adds noise",
    "flame": "adds noise",
    "norm-clipping std": "adds noise",
    "fltrust": "gives the root's norm",
}


def takes(name):
    """Parameters of a stage."""
    return signature(rules.REGISTRY[name]).parameters


def make(spec, f=F, **given):
    """Build ``"nnm+krum p=3"``; stages that draw have a seed, Bucketing permutes, clipping has a threshold."""
    names, _, arguments = spec.partition(" ")
    given |= rules.parse_args(arguments)
    stages = [_stage(name, {"f": f, "seed": 1, "s": 1, **given}) for name in names.split("+")]
    return rules.chain(*stages) if len(stages) > 1 else stages[0]


def _stage(name, given):
    required = {key: 4.0 for key, parameter in takes(name).items() if parameter.default is parameter.empty}
    return rules.REGISTRY[name](**required | {key: value for key, value in given.items() if key in takes(name)})


def layers_of(d):
    """Layers of d columns: a two-dimensional one first, and an empty one among the others."""
    classes = min(3, d)
    features = max(d // (2 * classes), 1) if d else 0
    rest = d - classes * features
    return [("fc", (classes, features)), ("empty", 0), ("bias", rest // 3), ("conv", (rest - rest // 3, 1, 1))]


def sizes_of(d):
    """Sizes of these layers."""
    return [int(np.prod(shape)) for _, shape in layers_of(d)]


def without_ties(spec):
    """Kinds of rows that every device orders alike: mixed integers tie up to rounding, which is another one on each."""
    return ("hostile", "near") if "+" in spec else ("hostile", "near", "integers")


def is_any(spec, names):
    """Whether a stage of the chain is among the names, or the spec begins with one of them."""
    return any(spec.startswith(name) or name in spec.partition(" ")[0].split("+") for name in names)


def on(device, updates):
    """Have updates worked on there; None is by compiled loops."""
    updates.device = device_for(device, "a test")
    return updates


def root_of(X):
    """A root update that the order of the rows does not change, and that grows and moves with them."""
    rows = np.asarray(X.detach().double() if hasattr(X, "detach") else X, dtype=np.float64)
    finite = rows[np.isfinite(rows).all(axis=1)] if rows.ndim == 2 else rows
    return np.median(finite, axis=0) if len(finite) else np.zeros(rows.shape[-1])


def model_of(X):
    """A model that was sent, likewise."""
    return np.roll(root_of(X), 1)


def side_of(X, ids=None):
    """Side inputs for these rows."""
    return SideInputs(ids, root_of(X), model_of(X))


def call(rule, X, ids=None):
    """Call a rule on rows of such layers, with side inputs."""
    return rule(X, layers=layers_of(X.shape[1]), ids=ids, root=root_of(X), model=model_of(X))


def run_on(device, rule, X, threads=None):
    """Return the whole outcome of such a call, on a device."""
    return run(rule, on(device, Updates.of_rows(X, layers_of(X.shape[1]))), threads, side=side_of(X))


def assert_same(found, expected, X):
    assert found.vector.dtype == expected.vector.dtype
    assert found.passes == expected.passes
    tolerance = 1e-6 if expected.vector.dtype == np.float32 else 1e-11
    assert_close(found.vector, expected.vector, X, tolerance)
    np.testing.assert_allclose(found.norms, expected.norms, rtol=1e-12)
    for one, other in ((found.weights, expected.weights), (found.used, expected.used)):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
