"""The registry of rules: one for each section type, made for the class of its sections."""

from typing import TypeVar, get_args, get_origin

import pytest
import torch
from cfgs import NET, maxpool, plain, route, section, shortcut, upsample
from networks import build

from pruning.graph.rules import RULES, Producer, Rule, rule_of
from yolo.layers import Layer, registered


def layer_class(rule: type) -> object:
    """The class of the sections that a rule is for: L of Rule[L]."""
    (base,) = (b for b in rule.__orig_bases__ if issubclass(get_origin(b), Rule))
    (kind,) = get_args(base)
    return Layer if isinstance(kind, TypeVar) else kind


@pytest.mark.parametrize("kind", RULES)
def test_a_rule_is_made_for_the_sections_of_its_type(kind):
    rule = type(RULES[kind])
    assert issubclass(registered()[kind], Layer if rule is Rule else layer_class(rule))


def test_every_section_type_but_heads_has_a_rule():
    assert {kind for kind, layer in registered().items() if not layer.is_head} == set(RULES)


SCALING = {
    "convolutional": plain(4),
    "bayesian_convolutional": plain(4).replace("[c", "[bayesian_c"),
    "shortcut": shortcut(-2, activation="leaky"),
    "route": route(0, 1),
    "maxpool": maxpool(),
    "upsample": upsample(scale=-2),
    "activation": section("activation", activation="relu"),
    "dropout": section("dropout"),
    "cost": section("cost"),
    "l2norm": section("l2norm"),
}


def test_every_section_type_that_scales_constants_has_a_case():
    assert {kind for kind, rule in RULES.items() if rule.scales} == set(SCALING)


@pytest.mark.parametrize("kind", SCALING)
def test_constants_that_are_larger_come_out_larger_by_as_much(kind):
    layer = build(NET + plain(4) + plain(4) + SCALING[kind]).layers[-1]
    rule, tensors = rule_of(layer), layer.stored()
    inputs = [torch.tensor([-2.0, -0.5, 1.0, 3.0])] * len(layer.sources)
    constant = rule.constant(layer, tensors, inputs)
    if isinstance(rule, Producer):  # its constant channels are as large as their shift
        tensors = {**tensors, "biases": 3 * tensors["biases"]}
    larger = rule.constant(layer, tensors, [3 * values for values in inputs])
    torch.testing.assert_close(larger, 3 * constant)
    assert constant.any()
