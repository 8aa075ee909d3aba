"""The registry of rules: one for each section type, made for the class of its sections."""

from typing import TypeVar, get_args, get_origin

import pytest

from pruning.graph.rules import RULES, Rule
from yolo.layers import Layer, registered


def layer_class(rule: type) -> object:
    """The class of the sections that a rule is for: L of Rule[L]."""
    (base,) = (b for b in rule.__orig_bases__ if issubclass(get_origin(b), Rule))
    (found,) = get_args(base)
    return Layer if isinstance(found, TypeVar) else found


@pytest.mark.parametrize("kind", RULES)
def test_a_rule_is_made_for_the_sections_of_its_type(kind):
    rule = type(RULES[kind])
    assert issubclass(registered()[kind], Layer if rule is Rule else layer_class(rule))


def test_every_section_type_but_heads_has_a_rule():
    assert {kind for kind, layer in registered().items() if not layer.is_head} == set(RULES)
