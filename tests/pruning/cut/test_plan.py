"""Plans: written, read, applied again, and refused where a graph can't follow them."""

import json

import numpy as np
import pytest
from cfgs import NET, conv, route, shortcut
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_cfg import sample
from surgeries import cut, cuts

from pruning.cut.plan import Plan
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from yolo.cfg import Cfg
from yolo.errors import PlanError
from yolo.network import Network

# 0 and 2 are tied, 4 is in two parts, 5 is the output
TEXT = NET + conv(4) + conv(6) + conv(4) + shortcut(0) + conv(8) + conv(2, groups=2)


@pytest.fixture(scope="module")
def graph():
    return ChannelGraph(Network(Cfg(TEXT.encode(), "x.cfg")))


@settings(suppress_health_check=list(HealthCheck), max_examples=25)
@given(cuts())
def test_a_saved_plan_makes_the_same_cut(tmp_path_factory, cutting):
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    cutting.plan.save(path)
    plan = Plan.load(path)
    assert plan == cutting.plan
    graph, folding = cutting.graph, cutting.folding
    fold = folding.fold(plan.alive(graph), plan.mean)
    assert (fold.kept == cutting.fold.kept).all()
    cfg, small = operate(graph, cutting.sample.state, fold)
    assert cfg.to_bytes() == cutting.cfg.to_bytes()
    assert all(
        tensor.equal(cutting.small[i][name]) or tensor.isnan().any()
        for i, tensors in small.items()
        for name, tensor in tensors.items()
    )


names = st.tuples(st.integers(0, 99), st.integers(0, 99))


@given(
    st.text(max_size=8),
    st.floats(0, 1, exclude_max=True),
    st.dictionaries(st.integers(0, 99), st.lists(st.integers(0, 99)).map(tuple), max_size=5),
    st.none() | st.lists(names, max_size=3).map(tuple),
    st.none() | st.text(max_size=8),
    st.booleans(),
)
def test_json_keeps_all_of_a_plan(tmp_path_factory, strategy, percent, keep, mean, target, without):
    path = tmp_path_factory.getbasetemp() / "plan.json"
    asked = None if without and target is not None else percent
    plan = Plan(strategy, asked, keep, mean, target)
    plan.save(path)
    assert Plan.load(path) == plan


def test_the_file_is_what_the_documentation_says(tmp_path):
    plan = Plan("normal", 0.5, {12: (0, 3), 2: (1,)})
    head = {"kind": "pruning plan", "schema": 2}
    assert json.loads(plan.to_json()) == {
        **head,
        "strategy": "normal",
        "percent": 0.5,
        "keep": {"2": [1], "12": [0, 3]},
    }
    least = {**head, "strategy": "s", "percent": 0, "keep": {"12": [0, 3]}}
    (tmp_path / "x").write_text(json.dumps(least))
    assert Plan.load(tmp_path / "x") == Plan("s", 0, {12: (0, 3)})
    plan = Plan("normal", None, {12: (0, 3)}, target="macs=0.5")
    asked = {**head, "strategy": "normal", "target": "macs=0.5"}
    assert json.loads(plan.to_json()) == asked | {"keep": {"12": [0, 3]}}


HEAD = '{"kind": "pruning plan", "schema": 2, '


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", "3", "\xff\xfe", "{}", HEAD + '"keep": {}}',
        '{"kind": "pruning plan", "schema": 1, "keep": {}}', '{"kind": "scan", "schema": 2}',
        '{"strategy": "s", "percent": 0, "keep": {}}',
        HEAD + '"strategy": "s", "percent": "x", "keep": {}}',
        HEAD + '"strategy": "s", "percent": 1' + "0" * 400 + ', "keep": {}}',
        HEAD + '"strategy": "s", "keep": {}}',
        HEAD + '"strategy": "s", "percent": null, "keep": {}}',
        HEAD + '"strategy": "s", "percent": "x", "target": "macs=0.5", "keep": {}}',
        HEAD + '"strategy": "s", "target": 0.5, "keep": {}}',
        HEAD + '"strategy": "s", "percent": 0, "keep": []}',
        HEAD + '"strategy": "s", "percent": 0, "keep": {"x": [0]}}',
        HEAD + '"strategy": "s", "percent": 0, "keep": {"1": 0}}',
        HEAD + '"strategy": "s", "percent": 0, "keep": {"1": [0.5]}}',
        HEAD + '"strategy": "s", "percent": 0, "keep": {"1": [true]}}',
        HEAD + '"strategy": "s", "percent": 0, "keep": {"1": ["0"]}}',
        HEAD + '"strategy": "s", "percent": 0, "keep": {}, "mean": 3}',
        HEAD + '"strategy": "s", "percent": 0, "keep": {}, "mean": [3]}',
        HEAD + '"strategy": "s", "percent": 0, "keep": {}, "mean": [[3, 0, 0]]}',
        "[" * 100000,
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_plan(tmp_path, content):
    path = tmp_path / "plan.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(PlanError, match=r"plan\.json: is (not )?a (damaged )?pruning plan"):
        Plan.load(path)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({9: (0,)}, "plan: section 9 of 6 doesn't exist"),
        ({-1: (0,)}, "plan: section -1 of 6 doesn't exist"),
        ({3: (0,)}, r"x.cfg:23: \[shortcut\] plan: only filters can be cut"),
        ({1: (0, 6)}, r"x.cfg:11: \[convolutional\] plan: expected ascending channels from 0 to 5"),
        ({1: (3, 2)}, "expected ascending channels"),
        ({1: (2, 2)}, "expected ascending channels"),
        ({1: (-1, 2)}, "expected ascending channels"),
        ({1: ()}, "no channel would be left of it"),
        ({0: (0, 1), 2: (0, 2)}, "another section that is tied to it keeps other channels"),
        ({4: (0, 1, 2, 4)}, r"parts of \[3, 1\] channels would be left of it"),
        ({5: (0,)}, "can't be cut: it is the network's output"),
    ],
)
def test_a_plan_that_the_graph_cant_follow(graph, keep, message):
    with pytest.raises(PlanError, match=message):
        Plan("x", 0, keep).alive(graph)


def test_a_plan_may_name_one_of_the_tied_sections(graph):
    alive = Plan("x", 0, {2: (0, 3), 4: (1, 2, 6, 7)}).alive(graph)
    full = Plan.of(graph, alive, "x", 0)
    assert full.keep == {0: (0, 3), 2: (0, 3), 4: (1, 2, 6, 7)}
    assert (full.alive(graph) == alive).all()


def test_a_family_that_isnt_there_cant_be_folded(graph):
    assert Plan("x", 0, {}, ((1, 0),)).alive(graph).all()
    with pytest.raises(PlanError, match="no family begins at channel 1 of 1"):
        Plan("x", 0, {}, ((1, 1),)).alive(graph)


def test_some_channels_of_a_section_may_have_to_stay():
    text = NET + conv(4) + conv(4) + "[lrn]\nsize=3\n"
    text += route(2, 0) + conv(8) + shortcut(3) + conv(2)
    graph = ChannelGraph(Network(Cfg(text.encode(), "x.cfg")))
    assert Plan("x", 0, {4: (0, 1, 2, 3, 6)}).alive(graph)[graph.outputs[0]].sum() == 1
    with pytest.raises(PlanError, match="some of what it cuts must stay"):
        Plan("x", 0, {4: (0, 1, 2, 6)}).alive(graph)


def test_the_plan_lists_shared_convolutions_too():
    shared = conv(4) + route(0) + conv(4, share_index=1) + route(1, 3) + conv(2)
    cutting = cut(sample(NET + conv(4) + shared), "exact")
    assert set(cutting.plan.keep) == {1, 3}
    assert cutting.plan.keep[1] == cutting.plan.keep[3]
    assert np.count_nonzero(cutting.fold.alive[cutting.graph.outputs[1]]) == 2
