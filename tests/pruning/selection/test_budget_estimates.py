"""Targets whose costs are only estimated: the search, corrected by few measurements."""

import pytest
from cfgs import NET, conv
from hypothesis import given
from hypothesis import strategies as st
from random_cfg import sample
from specs import spec

from pruning.cut.folding import Folding
from pruning.graph.channels import ChannelGraph
from pruning.measure.costs import Costs
from pruning.selection.budget import NEAR, ROUNDS, steps_to_meet
from pruning.selection.importance import Model
from pruning.selection.schedule import Schedule
from yolo.errors import PlanError


class Guess:
    """An estimate that is off by some factor until it is corrected; `true` counts channels."""

    def __init__(self, true, wrong=1.0, noise=lambda call: 1.0):
        self.true, self.ratio, self.wrong, self.noise = true, 1.0, wrong, noise
        self.measured = []

    def estimate(self, fold):
        """What is wrong is more wrong the more is cut."""
        return self.true(fold) ** self.wrong

    def __call__(self, plan, fold):
        return self.ratio * self.estimate(fold)

    def measure(self, plan, fold):
        cost = self.true(fold) * self.noise(len(self.measured))
        self.ratio = cost / self.estimate(fold)
        self.measured.append(cost)
        return cost


class Search:
    """A schedule of 199 steps, and how many channels of its family a cut keeps."""

    def __init__(self, target, channels=200):
        case = sample(NET + conv(channels, size=1) + conv(3))
        self.graph = ChannelGraph(case.network)
        folding = Folding(self.graph, case.state, "none")
        self.spec = spec("normal", target=target)
        self.schedule = Schedule(Model(self.graph, case.state), self.spec, folding)
        self.costs = Costs(self.graph).measures()

    def left(self, fold):
        return float(fold.kept[self.graph.outputs[0]].sum())

    def steps(self, **more):
        return steps_to_meet(self.schedule, self.spec.targets, self.costs | more)


@given(st.integers(1, 199), st.floats(0.7, 1.4))
def test_the_search_ends_near_the_target_or_says_why_not(limit, wrong):
    search = Search(f"ms={limit}")
    guess = Guess(search.left, wrong)
    steps = search.steps(ms=guess)
    assert len(guess.measured) <= ROUNDS + 1
    left = 200 - steps
    assert left in guess.measured
    # one channel may be more than the tolerance
    assert NEAR * limit - 1 <= left <= limit / NEAR


@given(st.integers(20, 199), st.lists(st.floats(0.98, 1.02), min_size=6, max_size=6))
def test_noise_in_what_is_measured_is_borne(limit, noise):
    search = Search(f"ms={limit}")
    guess = Guess(search.left, 1.1, lambda call: noise[call])
    left = 200 - search.steps(ms=guess)
    assert 0.85 * limit <= left <= 1.15 * limit


def test_what_fits_already_is_measured_once():
    for limit in (200, 201, 1000):
        search = Search(f"ms={limit}")
        guess = Guess(search.left)
        assert search.steps(ms=guess) == 0
        assert guess.measured == [200]


def test_what_is_out_of_reach_has_been_measured():
    """The estimate says that it can be reached."""
    search = Search("ms=50")
    guess = Guess(lambda fold: 100 + search.left(fold), 0.5)
    with pytest.raises(PlanError) as error:
        search.steps(ms=guess)
    assert str(error.value) == (
        "target ms=50 is out of reach: normal leaves at least ms=101, "
        "keeping at least 1 of every layer"
    )
    assert guess.measured[-1] == 101


def test_an_estimate_that_is_too_high_is_no_reason_to_give_up():
    search = Search("ms=30")
    guess = Guess(search.left)
    guess.ratio = 1000.0
    left = 200 - search.steps(ms=guess)
    assert 27 <= left <= 30


def test_the_nearest_is_within_reach():
    search = Search("ms=100")
    guess = Guess(lambda fold: 101 + search.left(fold))
    assert search.steps(ms=guess) == len(search.schedule)  # 102: two in a hundred above


def test_other_targets_set_where_the_search_begins():
    """99 channels of 202 are left for half of them, which takes less than 150 ms."""
    search = Search("channels=0.5,ms=150")
    guess = Guess(search.left)
    steps = search.steps(ms=guess)
    assert steps == Search("channels=0.5").steps()
    assert guess.measured == [200 - steps]


def test_other_targets_that_are_out_of_reach_cost_no_measurement():
    search = Search("channels=2,ms=150")
    guess = Guess(search.left)
    with pytest.raises(PlanError, match="target channels=2 is out of reach"):
        search.steps(ms=guess)
    assert guess.measured == []


def test_a_time_and_a_loss_that_contradict_each_other():
    search = Search("ms=50,map-drop=0.1")

    def lost(plan, fold):
        return (200 - search.left(fold)) / 1000

    with pytest.raises(PlanError) as error:
        search.steps(**{"ms": Guess(search.left), "map-drop": lost})
    message = str(error.value)
    assert (
        "target map-drop=0.1 is out of reach: the least cut for ms=50 has map-drop=0.15" in message
    )
    search = Search("ms=150,map-drop=0.1")
    left = 200 - search.steps(**{"ms": Guess(search.left), "map-drop": lost})
    assert 135 <= left <= 150
