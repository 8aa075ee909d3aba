"""What a user asks for, parsed and checked once: how far, in which order, within which limits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pruning.registry import (
    COMPARISONS,
    FOLD,
    FOLDS,
    GROUP_SCORES,
    IMAGES,
    IMPORTANCES,
    NO_RECOVERY,
    OPTIONS,
    RECOVERIES,
    STRATEGIES,
    Strategy,
)
from yolo.errors import PlanError
from yolo.registry import Entry

if TYPE_CHECKING:  # it needs torch, and a wrong option is refused before that is imported
    from pruning.cut.plan import Plan

UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
VALUE = re.compile(r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+)([kMG]?)", re.ASCII)
SHORT = {"params": "parameters"}
AUTO = "auto"


@dataclass(frozen=True)
class Kind(Entry):
    """A number that a target bounds from above; `text` says for --help what is counted.

    `share`: a value below 1 is a share of the original's. Cutting makes the number smaller, so
    that a cut goes on until it fits; where it `grows`, a cut goes as far as it fits. Limits are
    `below` this.
    """

    share: bool = False
    grows: bool = False
    below: float = math.inf


COUNTED = (
    Kind("channels", "of all sections with filters", share=True),
    Kind("parameters", "learnable numbers (params for short)", share=True),
    Kind("macs", "multiplications for one image", share=True),
    Kind("bytes", "of the .weights file", share=True),
)
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        *COUNTED,
        Kind("ms", "milliseconds of one image in OpenCV DNN, in torch where that can't run it"),
        Kind(
            "map-drop",
            "loss of mAP or top-1 on the images of --data; without other targets the largest cut "
            "that costs no more",
            grows=True,
            below=1.0,
        ),
    )
}


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
class Percent:
    """A share, in [0, 1), of the channels that a strategy may cut."""

    share: float
    kind = "percent"

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise PlanError(f"percent {self.share:g}: expected at least 0 and less than 1")

    def __str__(self) -> str:
        return f"{self.share:g}"


@dataclass(frozen=True)
class Targets:
    """Limits that a cut has to meet, no kind twice."""

    all: tuple[Target, ...]
    kind = "targets"

    @classmethod
    def parse(cls, text: str) -> Targets:
        """macs=0.5,bytes=2M or ms=12,map-drop=0.01; raises PlanError."""
        found = tuple(_target(part.strip()) for part in text.split(","))
        names = [target.name for target in found]
        for name in names:
            if names.count(name) > 1:
                raise PlanError(f"target {text}: {name} is given twice")
        return cls(found)

    def __str__(self) -> str:
        return ",".join(map(str, self.all))


@dataclass(frozen=True)
class Blocks:
    """A number of whole residual blocks, and then channels of what is left."""

    count: int
    then: Percent | Targets | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise PlanError(f"blocks {self.count}: expected at least 1")

    @property
    def kind(self) -> str:
        return f"blocks and {self.then.kind}" if self.then else "blocks"

    def __str__(self) -> str:
        return f"{self.count}-{self.then}" if self.then else str(self.count)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds on log α: one for all Bayesian sections, or one for each; None is `auto`.

    `reduced`: what stays is written in reduced precision.
    """

    values: tuple[float | None, ...] = (None,)
    reduced: bool = False
    kind = "thresholds"

    @classmethod
    def parse(cls, text: str, reduced: bool = False) -> Thresholds:
        """auto, a number, or one for each section as in -3,-5,auto; `inf` keeps all."""
        return cls(tuple(map(_threshold, text.split(","))), reduced)

    def __str__(self) -> str:
        return ",".join(AUTO if value is None else f"{value:g}" for value in self.values)


@dataclass(frozen=True)
class Saved:
    """The cut of a saved plan."""

    plan: Plan
    kind = "plan"

    def __str__(self) -> str:
        return "plan"


Amount = Percent | Targets | Blocks | Thresholds | Saved


@dataclass(frozen=True)
class Ranking:
    """What ranks channels; None leaves it to the strategy and to what has been measured.

    `importance`, `group` and `compare` are names of registry.py; `per_mac` divides a score by the
    MACs that go with it; `seed` is that of the importance `random`.
    """

    importance: str | None = None
    group: str | None = None
    compare: str = "global"
    per_mac: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_name("importance", self.importance, IMPORTANCES)
        check_name("group", self.group, GROUP_SCORES)
        check_name("compare", self.compare, COMPARISONS)
        if self.seed < 0:
            raise PlanError(f"seed {self.seed}: expected at least 0")


@dataclass(frozen=True)
class Limits:
    """What stays whatever the scores say.

    Every family keeps `keep_min` channels and the share `layer_keep` of its channels, the sections
    `spare` stay whole, and where there is `only`, all others do. `round_to` is a multiple that
    counts are rounded up to, POWERS for powers of two. None leaves it to the strategy.
    """

    keep_min: int = 1
    layer_keep: float | None = None
    round_to: int | None = None
    spare: tuple[int, ...] = ()
    only: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.keep_min < 1:
            raise PlanError(f"keep-min {self.keep_min}: expected at least 1")
        if self.layer_keep is not None and not 0 <= self.layer_keep <= 1:
            raise PlanError(f"layer-keep {self.layer_keep:g}: expected a share from 0 to 1")

    def renumbered(self, index_map: Mapping[int, int]) -> Limits:
        """The limits for another network; sections that it doesn't have are left out."""
        spare = tuple(index_map[i] for i in self.spare if i in index_map)
        only = self.only
        if only is not None:
            only = tuple(index_map[i] for i in only if i in index_map)
        return replace(self, spare=spare, only=only)


@dataclass(frozen=True)
class Spec:
    """One cut: a strategy, how far it goes, what ranks channels, what stays.

    `fold` is one of FOLDS, `recover` one of RECOVERIES. Raises PlanError for what doesn't go
    together, whatever the network is.
    """

    strategy: str
    amount: Amount
    ranking: Ranking = field(default_factory=Ranking)
    limits: Limits = field(default_factory=Limits)
    fold: str = "auto"
    recover: str = FOLD

    def __post_init__(self) -> None:
        check_name("recover", self.recover, RECOVERIES)
        if self.fold == "none":
            raise PlanError(f"fold none: use recover {NO_RECOVERY}")
        check_name("fold", self.fold, FOLDS)
        if isinstance(self.amount, Saved):
            return
        check_name("strategy", self.strategy, STRATEGIES)
        strategy = STRATEGIES[self.strategy]
        if self.amount.kind not in strategy.accepts:
            raise PlanError(
                f"{self.strategy} doesn't take {self.amount.kind}: use {strategy.example}"
            )
        if not strategy.ranks and self.ranking != Ranking():
            raise PlanError(f"{self.strategy} ranks no channels: leave out what ranks them")
        if strategy.takes_posteriors and RECOVERIES[self.recover].needs:
            raise PlanError(
                f"recover {self.recover} can't be combined with {self.strategy}: what it cuts "
                "carries nothing"
            )

    @property
    def entry(self) -> Strategy | None:
        """The strategy; None for a saved plan of one that isn't known here."""
        return STRATEGIES.get(self.strategy)

    @property
    def folding(self) -> str:
        """How constants are kept: one of FOLDS, or NO_RECOVERY."""
        return NO_RECOVERY if self.recover == NO_RECOVERY else self.fold

    @property
    def group(self) -> str:
        """How the scores of coupled channels become one."""
        return self.ranking.group or STRATEGIES[self.strategy].group

    @property
    def layer_keep(self) -> float:
        """The share of its channels that every family keeps."""
        own = self.limits.layer_keep
        return STRATEGIES[self.strategy].layer_keep if own is None else own

    @property
    def round_to(self) -> int | None:
        """A multiple that counts are rounded up to, POWERS for powers of two."""
        own = self.limits.round_to
        return STRATEGIES[self.strategy].round_to if own is None else own

    @property
    def kept(self) -> str:
        """What every layer keeps, in words."""
        share = f" and a share of {self.layer_keep:g}" if self.layer_keep else ""
        return f"{self.limits.keep_min}{share} of every layer"

    @property
    def channels(self) -> Percent | Targets | None:
        """How far channels go; None where that isn't said by a percent or by targets."""
        amount = self.amount.then if isinstance(self.amount, Blocks) else self.amount
        return amount if isinstance(amount, Percent | Targets) else None

    @property
    def targets(self) -> tuple[Target, ...]:
        return self.channels.all if isinstance(self.channels, Targets) else ()

    @property
    def percent(self) -> float | None:
        """What a plan records: None where targets were asked for."""
        if isinstance(self.channels, Percent):
            return self.channels.share
        return None if self.channels else 0.0

    @property
    def target(self) -> str | None:
        """The targets as text, as a plan records them."""
        return str(self.channels) if isinstance(self.channels, Targets) else None

    @property
    def needs(self) -> frozenset[str]:
        """What must be given beside the network: registry.IMAGES, SCAN, POSTERIOR."""
        wanted = [RECOVERIES[self.recover].needs]
        if self.ranking.importance and not isinstance(self.amount, Saved):
            wanted.append(IMPORTANCES[self.ranking.importance].needs)
        return frozenset(filter(None, wanted))

    def at_percent(self, share: float) -> Spec:
        """The spec with this percent of the channels in place of its own amount of them."""
        percent = Percent(share)
        amount = self.amount
        if isinstance(amount, Blocks):
            return replace(self, amount=replace(amount, then=percent))
        return replace(self, amount=percent)

    def check_given(self, given: frozenset[str]) -> None:
        """Raises PlanError where something that it needs isn't given."""
        importance = self.ranking.importance
        pairs = (
            ("recover", self.recover, RECOVERIES[self.recover].needs),
            ("importance", importance, IMPORTANCES[importance].needs if importance else ""),
        )
        for what, name, needed in pairs:
            if needed in self.needs - given:
                raise PlanError(f"{what} {name}: needs {needed} ({OPTIONS[needed]})")


def default_recovery(recover: str | None, images: bool) -> str:
    """The recovery that makes most of what is given, where none is asked for."""
    return recover or ("reconstruct" if images else FOLD)


def check_name(what: str, name: str | None, known: Mapping[str, object]) -> None:
    """Raises PlanError for a name that isn't one of those known."""
    if name is not None and name not in known:
        raise PlanError(f"{what} {name}: expected one of {', '.join(known)}")


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


def _threshold(text: str) -> float | None:
    if text.strip() == AUTO:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > -math.inf:
        raise PlanError(f"thresholds: {text!r}: expected auto, a number or inf")
    return value


__all__ = [
    "COUNTED",
    "IMAGES",
    "KINDS",
    "Amount",
    "Blocks",
    "Limits",
    "Percent",
    "Ranking",
    "Saved",
    "Spec",
    "Target",
    "Targets",
    "Thresholds",
]
