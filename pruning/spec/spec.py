"""One cut as a user asks for it: strategy, amount, ranking, limits; checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pruning.registry import (
    AUTO,
    COMPARISONS,
    FOLD,
    FOLDS,
    GROUP_SCORES,
    IMPORTANCES,
    NO_RECOVERY,
    OPTIONS,
    RECOVERIES,
    STRATEGIES,
    Strategy,
)
from pruning.spec.amounts import Amount, Blocks, Percent, Saved
from pruning.spec.targets import Target, Targets
from yolo.errors import PlanError


@dataclass(frozen=True)
class Ranking:
    """The order of channels; None leaves it to the strategy and to what has been measured.

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
    """The channels that stay whatever their scores are.

    Every family keeps `keep_min` channels and the share `layer_keep` of its channels, the sections
    `spare` stay whole, and where there is `only`, all others do. `round_to` is a multiple that
    counts are rounded up to, POWERS for powers of two, AUTO for a search among the widths that suit
    engines. None leaves it to the strategy.
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
        for name, value in vars(self.limits).items():
            if name not in strategy.limits and value != getattr(Limits, name):
                option = name.replace("_", "-")
                raise PlanError(f"{option} has no effect with {self.strategy}: leave it out")
        if self.limits.round_to == AUTO and not self.targets:
            raise PlanError("round auto chooses widths for a target: use it with one, or round 8")
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
        """A multiple that counts are rounded up to, POWERS or AUTO."""
        own = self.limits.round_to
        return STRATEGIES[self.strategy].round_to if own is None else own

    @property
    def kept(self) -> str:
        """The minimum that every layer keeps, in words."""
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
        """The percent that a plan records; None where targets were asked for."""
        if isinstance(self.channels, Percent):
            return self.channels.share
        return None if self.channels else 0.0

    @property
    def target(self) -> str | None:
        """The targets as text, as a plan records them."""
        return str(self.channels) if isinstance(self.channels, Targets) else None

    @property
    def needs(self) -> frozenset[str]:
        """Inputs needed beside the network: registry.IMAGES, SCAN, POSTERIOR."""
        inputs = [RECOVERIES[self.recover].needs]
        if self.ranking.importance and not isinstance(self.amount, Saved):
            inputs.append(IMPORTANCES[self.ranking.importance].needs)
        return frozenset(filter(None, inputs))

    def at_percent(self, share: float) -> Spec:
        """The spec with this percent of the channels in place of its own amount of them."""
        percent = Percent(share)
        amount, limits = self.amount, self.limits
        if limits.round_to == AUTO:  # it is for targets
            limits = replace(limits, round_to=None)
        then = replace(amount, then=percent) if isinstance(amount, Blocks) else percent
        return replace(self, amount=then, limits=limits)

    def check_inputs(self, available: frozenset[str]) -> None:
        """Raises PlanError where something that it needs isn't given."""
        importance = self.ranking.importance
        pairs = (
            ("recover", self.recover, RECOVERIES[self.recover].needs),
            ("importance", importance, IMPORTANCES[importance].needs if importance else ""),
        )
        for setting, name, needed in pairs:
            if needed in self.needs - available:
                raise PlanError(f"{setting} {name}: needs {needed} ({OPTIONS[needed]})")


def default_recovery(recover: str | None, images: bool) -> str:
    """The recovery that makes most of what is given, where none is asked for."""
    return recover or ("reconstruct" if images else FOLD)


def default_rounding(strategy: Strategy, amount: Amount) -> int | None:
    """How counts are rounded where that isn't said: budgets are met by widths that suit engines."""
    channels = amount.then if isinstance(amount, Blocks) else amount
    free = "round_to" in strategy.limits and strategy.round_to is None
    return AUTO if free and isinstance(channels, Targets) else None


def check_name(setting: str, name: str | None, choices: Mapping[str, object]) -> None:
    """Raises PlanError for a name that isn't one of those known."""
    if name is not None and name not in choices:
        raise PlanError(f"{setting} {name}: expected one of {', '.join(choices)}")
