"""Training settings of [net]: batch, optimiser and learning rate."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from yolo.cfg import Cfg, Section

SHORTEST_BURN_IN = 0.05  # share of a run whose schedule is compressed


@dataclass(frozen=True)
class Settings:
    """The training keys of [net], under Darknet's names and with its defaults (parser.c).

    A step is one update of the parameters from `batch` images, in `subdivisions` mini-batches.
    """

    batch: int = 1
    subdivisions: int = 1
    max_batches: int = 0
    learning_rate: float = 0.001
    learning_rate_min: float = 0.00001
    burn_in: int = 0
    power: float = 4.0
    policy: str = "constant"
    steps: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()
    step: int = 1
    scale: float = 1.0
    gamma: float = 1.0
    sgdr_cycle: int = 0
    sgdr_mult: int = 2
    momentum: float = 0.9
    decay: float = 0.0001
    adam: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    ema_alpha: float = 0.0
    stretch: float = 1.0  # factor by which `over` has multiplied numbers of steps

    @classmethod
    def of(cls, cfg: Cfg) -> Settings:
        """The settings of a cfg; raises CfgError for invalid values."""
        net = cfg.net
        batch = net.integer("batch", 1, 1)
        settings = cls(
            batch,
            min(net.integer("subdivisions", 1, 1), batch),
            net.integer("max_batches", 0),
            _at_least(net, "learning_rate", 0.001),
            _at_least(net, "learning_rate_min", 0.00001),
            net.integer("burn_in", 0),
            _at_least(net, "power", 4.0),
            net.choice("policy", "constant", {name: name for name in POLICIES}),
            net.integers("steps", ()),
            net.numbers("scales", ()),
            net.integer("step", 1, 1),
            net.number("scale", 1.0),
            net.number("gamma", 1.0),
            net.integer("sgdr_cycle", net.integer("max_batches", 0)),
            net.integer("sgdr_mult", 2, 1),
            _below_one(net, "momentum", 0.9),
            _at_least(net, "decay", 0.0001),
            net.flag("adam"),
            (_below_one(net, "B1", 0.9), _below_one(net, "B2", 0.999)),
            _at_least(net, "eps", 1e-6),
            _below_one(net, "ema_alpha", 0.0),
        )
        if settings.policy == "steps" and len(settings.steps) != len(settings.scales):
            raise net.error("policy=steps needs as many scales= as steps=", "steps")
        return settings

    def over(self, total: int) -> Settings:
        """The same schedule, compressed or stretched to `total` steps.

        Without max_batches= there is no schedule to scale; a burn-in is never compressed below 5 %
        of the run.
        """
        if not self.max_batches or self.max_batches == total:
            return replace(self, max_batches=total, sgdr_cycle=self.sgdr_cycle or total)
        share = total / self.max_batches

        def scaled(step: int) -> int:
            return max(round(step * share), 1)

        shortest = min(self.burn_in, math.ceil(SHORTEST_BURN_IN * total))
        return replace(
            self,
            max_batches=total,
            stretch=share,
            burn_in=max(round(self.burn_in * share), shortest),
            steps=tuple(map(scaled, self.steps)),
            step=scaled(self.step),
            gamma=self.gamma ** (1 / share) if self.policy == "exp" else self.gamma / share,
            sgdr_cycle=scaled(self.sgdr_cycle or self.max_batches),
        )

    def rate(self, step: int, seed: int = 0) -> float:
        """The learning rate of a step, counted from 0 (network.c: get_current_rate)."""
        if step < self.burn_in:
            # Darknet's first step has the rate 0, ours has more
            return self.learning_rate * ((step + 1) / self.burn_in) ** self.power
        return POLICIES[self.policy](self, step, seed)


def _constant(s: Settings, step: int, seed: int) -> float:
    return s.learning_rate


def _step(s: Settings, step: int, seed: int) -> float:
    return s.learning_rate * s.scale ** (step // s.step)


def _steps(s: Settings, step: int, seed: int) -> float:
    reached = (scale for at, scale in zip(s.steps, s.scales, strict=True) if at <= step)
    return s.learning_rate * math.prod(reached)


def _exp(s: Settings, step: int, seed: int) -> float:
    return s.learning_rate * s.gamma**step


def _poly(s: Settings, step: int, seed: int) -> float:
    return s.learning_rate * max(1 - step / max(s.max_batches, 1), 0.0) ** s.power


def _random(s: Settings, step: int, seed: int) -> float:
    return s.learning_rate * random.Random(f"{seed}:{step}").random() ** s.power


def _sigmoid(s: Settings, step: int, seed: int) -> float:
    return s.learning_rate / (1 + math.exp(min(s.gamma * (step - s.step), 700.0)))


def _sgdr(s: Settings, step: int, seed: int) -> float:
    start, cycle = 0, max(s.sgdr_cycle, 1)
    while start + cycle < step:
        start, cycle = start + cycle, cycle * s.sgdr_mult
    span = s.learning_rate - s.learning_rate_min
    return s.learning_rate_min + span * (1 + math.cos((step - start) * math.pi / cycle)) / 2


POLICIES: dict[str, Callable[[Settings, int, int], float]] = {
    "constant": _constant,
    "steps": _steps,
    "step": _step,
    "exp": _exp,
    "poly": _poly,
    "random": _random,
    "sig": _sigmoid,
    "sgdr": _sgdr,
}


def _at_least(net: Section, key: str, default: float) -> float:
    value = net.number(key, default)
    if value < 0:
        raise net.error(f"{key}={value:g}: expected at least 0", key)
    return value


def _below_one(net: Section, key: str, default: float) -> float:
    value = _at_least(net, key, default)
    if value >= 1:
        raise net.error(f"{key}={value:g}: expected less than 1", key)
    return value
