"""Targets that are measured: milliseconds, and what a cut loses of the mAP."""

import math

import numpy as np
import pytest
from random_cfg import sample
from specs import spec
from timed import TIMED, WHOLE, cut, finish, ready, timed, whole

from pruning.cut.folding import Folding
from pruning.cut.plan import Plan
from pruning.graph.channels import ChannelGraph
from pruning.measure import metric
from pruning.measure.latency import machine
from pruning.measure.latency_table import LatencyTable, SectionKind
from pruning.measure.measures import Latencies, Measures, MetricDrop
from pruning.measure.metric import Accuracy
from pruning.selection.budget import ROUNDS
from pruning.selection.importance import Model
from pruning.selection.select import select
from yolo.errors import PlanError
from yolo.models.weights import Header

pytestmark = pytest.mark.usefixtures("cache")

# Milliseconds


class Timing:
    """A search for milliseconds in a network whose times are made up."""

    def __init__(self, target, path, text=TIMED, measure=timed):
        self.network, self.measured = ready(text), []
        self.graph = ChannelGraph(self.network)
        self.folding = Folding(self.graph, self.network.state())
        self.spec = spec("shortcut", target=target)

        def recorded(network, runs, seconds):
            self.measured.append(measure(network))
            return self.measured[-1]

        self.latencies = Latencies(self.network, path, cut, recorded)

    def plan(self):
        measures_of = Measures(Header(), latencies=self.latencies)
        state = self.network.state()
        measures = measures_of(whole(self.network), self.folding)
        return select(Model(self.graph, state), self.spec, self.folding, measures=measures)

    def built(self, plan):
        return cut(self.graph, self.folding.fold(plan.alive(self.graph), plan.mean))


@pytest.mark.parametrize("share", [0.9, 0.7, 0.5, 0.3])
def test_a_cut_for_milliseconds(tmp_path, share):
    timing = Timing(f"ms={share * WHOLE:.4f}", tmp_path / "t.json")
    ms = timed(timing.built(timing.plan())).ms
    assert 0.88 * share * WHOLE <= ms <= share * WHOLE * 1.0001
    assert len(timing.measured) <= ROUNDS + 1


def test_the_next_search_knows_more(tmp_path):
    """What is known of other cuts tells where to begin."""
    target = f"ms={0.5 * WHOLE:.4f}"
    first = Timing(target, tmp_path / "t.json")
    first.plan()
    again = Timing(target, tmp_path / "t.json")
    again.plan()
    assert len(again.measured) <= len(first.measured)
    assert len(again.measured) == 2  # the whole network, and the cut


def test_a_table_of_nonsense_is_corrected(tmp_path):
    """What another load of the machine left there."""
    kind = SectionKind.of(sample(TIMED).network.layers[1])
    table = LatencyTable(tmp_path / "t.json", machine(timed(sample(TIMED).network)))
    table.add({(kind, (2, 2)): 500.0})
    timing = Timing(f"ms={0.5 * WHOLE:.4f}", tmp_path / "t.json")
    ms = timed(timing.built(timing.plan())).ms
    assert 0.4 * WHOLE <= ms <= 0.55 * WHOLE


def test_milliseconds_that_no_cut_takes(tmp_path):
    timing = Timing("ms=0.01", tmp_path / "t.json")
    with pytest.raises(
        PlanError, match=r"target ms=0.01 is out of reach: shortcut leaves at least"
    ):
        timing.plan()
    assert f"{timing.measured[-1].ms:.4g}" in _refused(timing)


def _refused(timing):
    with pytest.raises(PlanError) as error:
        timing.plan()
    return str(error.value)


def test_nothing_is_measured_twice(tmp_path):
    timing = Timing("ms=1", tmp_path / "t.json")
    timing.latencies.measured(timing.network)
    assert len(timing.measured) == 1


def test_estimates_are_right_where_something_was_measured(tmp_path):
    timing = Timing("ms=1", tmp_path / "t.json")
    measures = Measures(Header(), latencies=timing.latencies)
    ms = measures(whole(timing.network), timing.folding)["ms"]
    fold = timing.folding.fold(np.ones(timing.graph.size, bool))
    assert ms(Plan("x", 0, {}), fold) == pytest.approx(WHOLE)


# What is lost


class Scored:
    """Evaluations of networks whose score is their share of some channels."""

    def __init__(self):
        self.networks = []

    def __call__(self, network, images, *, points, progress):
        progress(1)
        self.networks.append(network)
        channels = network.layers[1].out_shape.channels
        return type("Evaluation", (), {"score": channels / 24})()


@pytest.fixture
def scored(monkeypatch):
    evaluation = Scored()
    monkeypatch.setattr(metric, "evaluate", evaluation)
    return evaluation


class Images:
    items = (None,)


def test_no_network_is_evaluated_twice(scored):
    said = []
    accuracy = Accuracy(Images(), progress=said.append)
    first, twin = ready(TIMED), ready(TIMED)
    assert accuracy(first).score == accuracy(twin).score == 1
    assert len(scored.networks) == 1
    assert said == ["evaluating: 1 of 1 images"]
    first.layers[0].stored()["weights"].data += 1
    accuracy(first)
    assert len(scored.networks) == 2


@pytest.mark.parametrize("drop", [0, 0.05, 0.25, 0.5, 0.99])
def test_the_largest_cut_that_loses_no_more(scored, drop):
    network = ready(TIMED)
    graph = ChannelGraph(network)
    folding = Folding(graph, network.state(), "none")
    drops = MetricDrop(network, finish, Accuracy(Images()))
    measures = Measures(Header(), drop=drops)(whole(network), folding)
    asked = spec("normal", target=f"map-drop={drop}", only=(1,))
    model = Model(graph, network.state())
    plan = select(model, asked, folding, measures=measures)
    left = len(plan.keep.get(1, range(24)))
    assert left == max(math.ceil(24 * (1 - drop) - 1e-9), 1)
    assert len(scored.networks) <= 3 + math.ceil(math.log2(24))


def test_what_is_written_is_what_is_scored(scored):
    """Not the cut, but what `finish` makes of it."""
    network = ready(TIMED)
    graph = ChannelGraph(network)
    folding = Folding(graph, network.state(), "none")
    fold = folding.fold(np.arange(graph.size) != graph.outputs[1][0])
    finished = cut(graph, folding.fold(np.ones(graph.size, bool)))
    accuracy = Accuracy(Images())
    assert MetricDrop(network, finish, accuracy)(whole(network), graph, fold) == pytest.approx(
        1 / 24
    )
    done = MetricDrop(network, lambda shortened, graph, fold: finished, accuracy)
    assert done(whole(network), graph, fold) == 0
