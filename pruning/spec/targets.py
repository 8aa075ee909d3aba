"""Limits that a cut has to meet, as a user writes them: macs=0.5,bytes=2M or ms=12."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from yolo.errors import PlanError
from yolo.registry import Entry, registry

UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
VALUE = re.compile(r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+)([kMG]?)", re.ASCII)
SHORT = {"params": "parameters"}


@dataclass(frozen=True)
class Quantity(Entry):
    """A number that a target bounds from above; `text` says for --help what is counted.

    `share`: a value below 1 is a share of the original's. Cutting makes the number smaller, so
    that a cut goes on until it fits; where it `grows`, a cut goes as far as it fits. Limits are
    `below` this.
    """

    share: bool = False
    grows: bool = False
    below: float = math.inf


COUNTED = registry(
    Quantity("channels", "of all sections with filters", share=True),
    Quantity("parameters", "learnable numbers (params for short)", share=True),
    Quantity("macs", "multiplications for one image", share=True),
    Quantity("bytes", "of the .weights file", share=True),
)
KINDS = registry(
    *COUNTED.values(),
    Quantity("ms", "milliseconds of one image in the engine of --ms-engine"),
    Quantity(
        "map-drop",
        "loss of mAP or top-1 on the images of --data; without other targets the largest cut "
        "that costs no more",
        grows=True,
        below=1.0,
    ),
)


@dataclass(frozen=True)
class Target:
    """At most `limit` of what `name` counts, or at most this share of the original's."""

    name: str
    limit: float
    share: bool
    text: str

    @property
    def grows(self) -> bool:
        return KINDS[self.name].grows

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Targets:
    """Limits that a cut has to meet, no kind twice."""

    all: tuple[Target, ...]
    kind = "targets"

    @classmethod
    def parse(cls, text: str) -> Targets:
        """macs=0.5,bytes=2M or ms=12,map-drop=0.01; raises PlanError."""
        targets = tuple(_target(part.strip()) for part in text.split(","))
        names = [target.name for target in targets]
        for name in names:
            if names.count(name) > 1:
                raise PlanError(f"target {text}: {name} is given twice")
        return cls(targets)

    def __str__(self) -> str:
        return ",".join(map(str, self.all))


def _target(text: str) -> Target:
    name, equals, value = (part.strip() for part in text.partition("="))
    name = SHORT.get(name, name)
    if not equals:
        raise PlanError(f"target {text!r}: expected NAME=VALUE as in macs=0.5")
    if name not in KINDS:
        raise PlanError(f"target {text}: expected one of {', '.join(KINDS)}")
    match, kind = VALUE.fullmatch(value), KINDS[name]
    digits, unit = match.groups() if match else ("nan", "")
    number = float(digits) * UNITS[unit]
    share = kind.share and not unit and number < 1
    # nobody means 1 or 1.5 of the original
    means = 0 < number < 1 if share else number > 1 and (bool(unit) or number.is_integer())
    if not number < kind.below or (kind.share and not means):
        either = f"a share of the original below 1 as in {name}=0.5, or a number with k, M or G"
        plain = "a number" if kind.below == math.inf else f"a number below {kind.below:g}"
        raise PlanError(f"target {text}: expected {either if kind.share else plain}")
    return Target(name, number, share, f"{name}={value}")
