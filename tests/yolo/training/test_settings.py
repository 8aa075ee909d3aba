"""Learning rates against Darknet's formulas, step by step, and what [net] may say."""

import math

import pytest
from cfgs import net

from yolo.cfg import Cfg
from yolo.errors import CfgError
from yolo.training.settings import POLICIES, Settings

NET = net(learning_rate=0.1, max_batches=100)


def settings(text: str) -> Settings:
    return Settings.of(Cfg((NET + text).encode(), "x.cfg"))


def test_darknets_defaults():
    plain = Settings.of(Cfg(net().encode(), "x.cfg"))
    assert (plain.batch, plain.subdivisions, plain.learning_rate) == (1, 1, 0.001)
    assert (plain.momentum, plain.decay, plain.policy, plain.power) == (0.9, 0.0001, "constant", 4)


# what network.c: get_current_rate gives for learning_rate=0.1 and max_batches=100
RATES = [
    ("policy=constant", {0: 0.1, 99: 0.1}),
    ("policy=steps\nsteps=10,20\nscales=.1,.5", {9: 0.1, 10: 0.01, 19: 0.01, 20: 0.005, 99: 0.005}),
    ("policy=step\nstep=10\nscale=.5", {9: 0.1, 10: 0.05, 29: 0.025}),
    ("policy=exp\ngamma=.9", {0: 0.1, 3: 0.1 * 0.9**3}),
    ("policy=poly\npower=2", {0: 0.1, 50: 0.025, 100: 0.0}),
    ("policy=sig\ngamma=.5\nstep=50", {50: 0.05, 54: 0.1 / (1 + math.exp(2))}),
    ("policy=sgdr\nlearning_rate_min=0", {0: 0.1, 50: 0.05, 100: 0.0}),
    (
        "policy=sgdr\nlearning_rate_min=0\nsgdr_cycle=20\nsgdr_mult=2",
        {20: 0.0, 21: 0.1 / 2 * (1 + math.cos(math.pi / 40)), 40: 0.05, 60: 0.0},
    ),
    ("burn_in=10\npower=4", {4: 0.1 * 0.5**4, 9: 0.1, 10: 0.1}),
]


@pytest.mark.parametrize(("text", "rates"), RATES, ids=[text.split("\n")[0] for text, _ in RATES])
def test_rates_follow_darknet(text, rates):
    for step, rate in rates.items():
        assert settings(text).rate(step) == pytest.approx(rate, abs=1e-9)


def test_every_policy_is_tested():
    assert {text.split("\n")[0].removeprefix("policy=") for text, _ in RATES} >= (
        POLICIES.keys() - {"random"}
    )


def test_random_rates_are_repeatable_and_bounded():
    schedule = settings("policy=random\npower=1")
    rates = [schedule.rate(step, seed=3) for step in range(50)]
    assert rates == [schedule.rate(step, seed=3) for step in range(50)]
    assert len(set(rates)) == 50
    assert all(0 <= rate <= 0.1 for rate in rates)


@pytest.mark.parametrize("text", [text for text, _ in RATES])
def test_a_scaled_schedule_runs_through_the_same_rates(text):
    """The rate halfway, and at the end, is that of the whole schedule."""
    whole = settings(text.replace("burn_in=10", "burn_in=2"))
    short = whole.over(50)
    for share in (0.3, 0.5, 0.9):
        expected = [whole.rate(round(share * 100) + near) for near in (-1, 0, 1)]
        assert min(expected) - 1e-3 <= short.rate(round(share * 50)) <= max(expected) + 1e-3


def test_a_burn_in_stays_a_share_of_a_short_run():
    short = settings("burn_in=1000").over(100)
    assert short.burn_in == 1000
    long = Settings.of(
        Cfg(NET.replace("=100", "=500000").encode() + b"burn_in=4000\n", "x.cfg")
    ).over(750)
    assert long.burn_in == 38  # 5 % rather than the 6 that 4000 of 500000 would be


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch=0", "batch=0: expected at least 1"),
        ("momentum=1", "momentum=1: expected less than 1"),
        ("learning_rate=nan", "not a finite number"),
        ("policy=cosine", "expected one of constant, steps"),
        ("policy=steps\nsteps=1,2\nscales=.1", "as many scales= as steps="),
        ("decay=-1", "expected at least 0"),
    ],
)
def test_wrong_values_name_their_line(text, message):
    net = NET.replace("learning_rate=0.1\n", "") if text.startswith("learning_rate") else NET
    with pytest.raises(CfgError, match=message) as raised:
        Settings.of(Cfg((net + text).encode(), "x.cfg"))
    assert str(raised.value).startswith("x.cfg:")
