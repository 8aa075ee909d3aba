"""Cfgs for hank-ai's Darknet 5, which ends at keys and numbers that it doesn't know."""

import re
from pathlib import Path

import pytest
from cfgs import net
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT, SHARED

from yolo.cfg import Cfg
from yolo.strict import KEYS, known_keys, strict_value

CFGS = sorted([*ROOT.glob("cfg/*.cfg"), *SHARED.glob("data/models/*.cfg")])
# as CfgFile::read() of darknet_cfg.cpp takes lines apart
LINE = re.compile(r"^\[(.+)\]|^[ \t]*([^#= \t]+)[ \t]*=[ \t]*([^#]+)")
NUMBER = re.compile(r"[-.0-9]+")
WORDS = {"activation", "policy", "type", "iou_loss", "iou_thresh_kind", "nms_kind", "yolo_point"}
WORDS |= {"weights_type", "weights_normalization", "map", "tree"}
LISTS = {"layers", "from", "mask", "anchors", "steps", "scales", "seq_scales", "counters_per_class"}


def seen(content: bytes) -> list[tuple[str, dict[str, str]]]:
    """The sections that Darknet 5 reads; a key given twice fails."""
    sections: list[tuple[str, dict[str, str]]] = []
    for line in content.decode("latin-1").split("\n"):
        match = LINE.search(line.strip(" \t\r\n"))
        if match and match[1]:
            sections.append((match[1], {}))
        elif match:
            assert match[2] not in sections[-1][1], f"{match[2]} is given twice"
            sections[-1][1][match[2]] = match[3].strip()
    return sections


def check(cfg: Cfg) -> None:
    """Fails where Darknet 5 would end; sections that it lacks are left out."""
    for section, (name, values) in zip(cfg.sections, seen(cfg.to_bytes()), strict=True):
        known = known_keys(section.type, values)
        assert name == section.name
        if known is None:
            continue
        assert not values.keys() - known
        numbers = {key: text for key, text in values.items() if key not in WORDS | LISTS}
        wrong = {key for key, text in numbers.items() if not NUMBER.fullmatch(text)}
        assert wrong <= {"image_mean", "image_scale"}


def numbers(cfg: Cfg) -> list[dict[str, object]]:
    """All that Darknet reads, numbers as such."""
    read = [
        {key: section.text(key).split(",") for key in section.options} for section in cfg.sections
    ]
    return [{key: [_number(item) for item in items] for key, items in row.items()} for row in read]


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


@pytest.mark.parametrize("path", CFGS, ids=lambda path: path.stem)
def test_every_cfg_suits_it_and_says_the_same(path: Path) -> None:
    cfg = Cfg.load(path)
    strict = cfg.strict()
    check(strict)
    assert numbers(strict) == numbers(cfg)
    assert strict.strict().to_bytes() == strict.to_bytes()


@pytest.mark.parametrize(
    ("key", "value", "strict"),
    [
        ("decay", "4e-5", "0.00004"),
        ("learning_rate", "+1.5E+2", "150"),
        ("scales", ".1,1e-1,  +.5", ".1,0.1,  .5"),
        ("layers", "-1., -4.0", "-1, -4"),
        ("anchors", "10.0,13.50", "10.0,13.50"),
        ("width", "4 16", "416"),
        ("activation", "relu # 1e5 +2", "relu # 1e5 +2"),
        ("decay", "1e99999999", "1e99999999"),
        ("map", "a1e5.txt", "a1e5.txt"),
    ],
)
def test_values(key: str, value: str, strict: str) -> None:
    assert strict_value(key, value) == strict


@given(st.floats(1e-37, 1e37) | st.floats(-1e37, -1e-37))
def test_numbers_keep_their_value(number: float) -> None:
    text = strict_value("decay", repr(number))
    assert float(text) == number
    assert NUMBER.fullmatch(text)


@pytest.mark.parametrize("kind", KEYS)
def test_unknown_keys_are_hidden_from_it_and_stay_for_darknet(kind: str) -> None:
    lines = "nobody_knows_it=1\nshort=2\nx=3\nclip=0\n"
    strict = Cfg(f"{net()}[{kind}]\n{lines}".encode()).strict()
    assert seen(strict.to_bytes())[1] == (kind, {"clip": "0"})
    expected = {"nobody_knows_it": "1", "short": "2", "clip": "0"}
    assert {key: strict.layers[0].text(key) for key in strict.layers[0].options} == expected


def test_sections_that_it_lacks_stay_as_they_are() -> None:
    text = f"{net()}[local]\nsize=3\nx_y=1e-3\n"
    assert Cfg(text.encode()).strict().to_bytes() == text.encode()


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (None, ""),
        ("constant", ""),
        ("steps", "steps scales"),
        ("steps # twice", "steps scales"),
        ("sgdr", "steps scales"),
        ("step", "step scale"),
        ("exp", "gamma"),
        ("sigmoid", "gamma step"),
        ("poly", ""),
    ],
)
def test_a_policy_hides_the_keys_of_others(policy: str | None, kept: str) -> None:
    keys = {"steps": 4, "scales": ".1", "step": 2, "scale": 3, "gamma": 5, "B1": 0.5}
    text = net(**keys, **({"policy": policy} if policy else {}))
    strict = Cfg(text.encode()).strict()
    assert seen(strict.to_bytes())[0][1].keys() & keys.keys() == set(kept.split())
    assert numbers(strict) == numbers(Cfg(text.encode()))


@pytest.mark.parametrize(("adam", "kept"), [("1", True), ("0", False), ("0.0 # off", False)])
def test_adam_has_its_keys(adam: str, kept: bool) -> None:
    strict = Cfg(net(adam=adam, B1=0.5).encode()).strict()
    assert ("B1" in seen(strict.to_bytes())[0][1]) == kept


def test_keys_that_change_the_outputs_are_not_hidden() -> None:
    strict = Cfg(net(image_mean="1,2,3", image_scale=2).encode()).strict()
    assert {"image_mean", "image_scale"} <= seen(strict.to_bytes())[0][1].keys()


def test_a_comment_stays_one() -> None:
    strict = Cfg(f"{net()} ;width=9\n;[yolo]\n#x=1\n".encode()).strict()
    assert strict.to_bytes().endswith(b"\n #width=9\n#[yolo]\n#x=1\n")
    check(strict)


def test_a_key_given_twice_would_be_refused() -> None:
    text = f"{net()}width=9\n".encode()
    with pytest.raises(AssertionError, match="width is given twice"):
        check(Cfg(text))
    check(Cfg(text).strict())
