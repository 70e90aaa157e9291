"""Attacks by name."""

from __future__ import annotations

import pytest

from clients import attacks


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("sign-flip", None, attacks.SignFlip()),
        ("foe", {"tau": 1.5}, attacks.FallOfEmpires(1.5)),
        ("fall-of-empires", {"tau": "optimal", "factors": [0, 1]}, attacks.FallOfEmpires("optimal", [0, 1])),
        ("ipm", {}, attacks.FallOfEmpires()),
        ("alie", {"tau": "auto"}, attacks.ALittleIsEnough("auto")),
        ("a-little-is-enough", {}, attacks.ALittleIsEnough()),
        ("mimic", {"warmup": 3}, attacks.Mimic(3)),
        ("label-flip", {"num-classes": 10, "probability": 0.5}, attacks.LabelFlip(10, 0.5)),
    ],
)
def test_from_spec(name, args, expected):
    made = attacks.from_spec(name, args)
    assert type(made) is type(expected)
    assert made == expected


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("mimick", {}, r"no attack 'mimick' \(did you mean 'mimic'\?\); give one of .*alie.*sign-flip"),
        ("zzz", {}, r"no attack 'zzz'; give one of"),
        (None, {}, r"no attack None"),
        ("foe", {"tua": 1}, r"no parameter 'tua' \(did you mean 'tau'\?\); it takes tau, factors"),
        ("sign-flip", {"tau": 1}, r"it takes no parameters"),
        ("mimic", {"_tracker": 1}, r"no parameter '_tracker'"),
        ("label-flip", {}, r"needs the parameter 'num_classes'"),
        ("foe", {"tau": "auto"}, r"FallOfEmpires was given tau = 'auto'"),
    ],
)
def test_wrong_specs(name, args, message):
    with pytest.raises(ValueError, match=message):
        attacks.from_spec(name, args)


def test_every_name_is_kebab_case_and_every_alias_leads_to_one():
    assert all(name == name.lower() and " " not in name for name in [*attacks.REGISTRY, *attacks.ALIASES])
    assert set(attacks.ALIASES.values()) <= set(attacks.REGISTRY)
    assert not set(attacks.ALIASES) & set(attacks.REGISTRY)
