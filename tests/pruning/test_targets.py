"""Targets as they are written."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.spec import Targets
from yolo.errors import PlanError


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("ms=12", [("ms", 12)]),
        ("ms=.5", [("ms", 0.5)]),
        ("ms=1.5k", [("ms", 1500)]),
        ("map-drop=0", [("map-drop", 0)]),
        ("ms=12,map-drop=0.02", [("ms", 12), ("map-drop", 0.02)]),
    ],
)
def test_targets_that_are_no_shares(text, limits):
    targets = Targets.parse(text).all
    assert [(t.name, t.limit) for t in targets] == limits
    assert not any(t.share for t in targets)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ms=fast", "target ms=fast: expected a number"),
        ("ms=-1", "target ms=-1: expected a number"),
        ("ms=nan", "target ms=nan: expected a number"),
        ("ms=1e999", "target ms=1e999: expected a number"),
        ("ms=5ms", "target ms=5ms: expected a number"),
        ("map-drop=1", "target map-drop=1: expected a number below 1"),
        ("map-drop=2k", "target map-drop=2k: expected a number below 1"),
        ("map-drop=1%", "target map-drop=1%: expected a number below 1"),
        ("mapdrop=0.1", "expected one of channels, parameters, macs, bytes, ms, map-drop"),
    ],
)
def test_targets_that_cant_be_meant(text, message):
    with pytest.raises(PlanError) as error:
        Targets.parse(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("macs=0.5", [("macs", 0.5, True)]),
        (" macs = .5 , bytes=2M", [("macs", 0.5, True), ("bytes", 2e6, False)]),
        ("params=300k", [("parameters", 3e5, False)]),
        ("params=0.5M", [("parameters", 5e5, False)]),
        ("macs=1.5G,channels=0.99", [("macs", 1.5e9, False), ("channels", 0.99, True)]),
        ("params=12345", [("parameters", 12345, False)]),
        ("macs=2e9", [("macs", 2e9, False)]),
    ],
)
def test_targets_as_they_are_written(text, limits):
    targets = Targets.parse(text).all
    assert [(t.name, t.limit, t.share) for t in targets] == limits
    assert Targets.parse(",".join(map(str, targets))).all == targets


BAD_TARGETS = {
    "": "target '': expected NAME=VALUE as in macs=0.5",
    "macs": "target 'macs': expected NAME=VALUE",
    "0.5": "target '0.5': expected NAME=VALUE",
    "macs=0.5,": "target '': expected NAME=VALUE",
    "flops=0.5": "target flops=0.5: expected one of channels, parameters, macs, bytes",
    "=0.5": "target =0.5: expected one of channels",
    "macs=0.5,params=0.5,macs=0.4": "macs is given twice",
    **{
        f"macs={value}": f"target macs={value}: expected a share of the original below 1"
        for value in (
            *("", "x", "0", "0.0", "1", "1.0", "1.5", "-0.5", "nan", "inf", "0k", "50%", "1e999"),
            *("0.5m", "1 M", "2B", "0x10", "1e-999", "0.5=0.5", "½", "٣"),
        )
    },
}


@pytest.mark.parametrize("text", BAD_TARGETS)
def test_bad_targets(text):
    with pytest.raises(PlanError) as error:
        Targets.parse(text)
    assert BAD_TARGETS[text] in str(error.value)


@given(st.text(max_size=12) | st.from_regex(r"macs=[0-9.kMGe+-]{0,9}", fullmatch=True))
def test_other_text_is_refused_or_means_something(text):
    try:
        targets = Targets.parse(text).all
    except PlanError:
        return
    assert all(0 < t.limit < (1 if t.share else math.inf) for t in targets)
