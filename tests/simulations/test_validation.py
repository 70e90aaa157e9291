"""Pydantic's errors as sentences: each names the key, what was given, what is allowed; all of them come at once."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from simulations.validation import Checked, Listed, one_of, sentences


class Circle(Checked):
    kind: Literal["circle"]
    radius: Annotated[float, Field(gt=0)] = 1.0


class Square(Checked):
    kind: Literal["square", "box"]
    side_length: int
    of: Literal["wood"] = "wood"


class Drawing(Checked):
    title: str = ""
    colour: Annotated[str, one_of(lambda: ["red", "green"])] = "red"
    filled: bool = False
    shape: Listed[Annotated[Circle | Square, Field(discriminator="kind")]] = ()
    sizes: Annotated[list[int], Field(min_length=1)] = Field(default_factory=lambda: [1])


def mistakes(given):
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate(given)
    return sentences(caught.value, Drawing, "a.toml", {"shape": "[[shape]]"})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"titel": "x"}, "a.toml: the key 'titel' is unknown (did you mean 'title'?); allowed: title, colour, filled,"),
        ({"title": 3}, 'a.toml: title=3 is of type int; give a text in quotes (key="text").'),
        ({"filled": 1}, "a.toml: filled=1 is of type int; give true or false."),
        ({"colour": "gren"}, "a.toml: colour='gren' is unknown (did you mean 'green'?); allowed: red, green."),
        ({"sizes": []}, "a.toml: sizes is empty; give at least one value."),
        ({"shape": 3}, "a.toml: shape=3 is of type int; write [[shape]]."),
        ({"shape": {"kind": "oval"}}, "a.toml [[shape]]: kind='oval' is unknown; allowed: circle, square, box."),
        ({"shape": {}}, "a.toml [[shape]]: kind is missing; add it."),
        ({"shape": {"kind": "circle", "radius": 0}}, "circle: radius=0 is out of range: give more than 0."),
        ({"shape": {"kind": "circle", "radius": float("inf")}}, "radius=inf is out of range: give a finite number."),
        ({"shape": {"kind": "box"}}, "a.toml [[shape]] box: side-length is missing; add it."),
        ({"shape": {"kind": "box", "side-length": 1.5}}, "box: side-length=1.5 is of type float; give a whole number."),
        ({"shape": {"kind": "box", "side-length": 1, "of": "tin"}}, "box: of='tin' is not allowed; give 'wood'."),
        ({"shape": {"kind": "box", "side-length": 1, "radius": 2}}, "allowed: kind, side-length, of."),
    ],
)
def test_each_mistake_has_its_sentence(given, sentence):
    (found,) = mistakes(given)
    assert sentence in found


def test_all_mistakes_come_at_once():
    shapes = [{"kind": "circle", "radius": -1}, {"kind": "oval"}, {"kind": "circle", "radius": -1}]
    assert len(mistakes({"title": 3, "x": 1, "shape": shapes})) == 4  # what is said twice is said once
