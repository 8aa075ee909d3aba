"""The step of widths that an engine computes well."""

import math

import pytest

from pruning.measure import width_step as module
from pruning.measure.latency import machine_of
from pruning.measure.latency_table import LatencyTable, read_tables
from pruning.measure.width_step import STEPS, measured_step, width_step
from pruning.proof.engines.base import EngineError, Profile
from yolo.errors import DarknetError

pytestmark = pytest.mark.usefixtures("cache")


def blocks(step, slow=1.0):
    """A profiler of an engine that fills widths up to blocks, or is slower between them."""

    def profile(network, runs, seconds):
        def ms(layer):
            inputs, outputs = layer.inputs[0].channels, layer.out_shape.channels
            factor = 1.0 if outputs % step == 0 else slow
            padded = (step * math.ceil(n / step) if slow == 1 else n for n in (inputs, outputs))
            return factor * math.prod(padded) / layer.groups

        sections = {i: ms(layer) for i, layer in enumerate(network.layers)}
        return Profile("Fake 1.0", 1, sum(sections.values()), sections)

    return profile


@pytest.mark.parametrize("step", STEPS)
def test_an_engine_that_is_slow_between_its_blocks(step):
    assert measured_step(blocks(step, slow=3.0)) == step


def test_what_is_filled_up_costs_little_where_blocks_are_small():
    assert measured_step(blocks(1)) == 1
    assert measured_step(blocks(2)) == 1
    assert measured_step(blocks(16)) in (8, 16)


def test_it_is_measured_once_and_kept(monkeypatch, tmp_path, cache):
    profiles, said = [], []

    def profiler_of(name):
        profiles.append(name)
        return blocks(4, slow=3.0)

    monkeypatch.setattr(module.latency, "profiler_of", profiler_of)
    path = tmp_path / "t.json"
    assert [width_step("torch", path, said.append) for _ in range(2)] == [4, 4]
    assert (profiles, said) == (["torch"], ["measuring the widths that suit torch"])
    assert read_tables(path).width_steps == {machine_of("torch"): 4}
    assert not cache.exists()
    LatencyTable(path, "other").add({})  # what others keep there stays
    assert width_step("torch", path, said.append) == 4
    assert width_step("torch", None, said.append) == 4
    assert (len(profiles), read_tables(cache).width_steps) == (2, {machine_of("torch"): 4})


def test_an_engine_that_is_missing_has_none(monkeypatch):
    def missing(name):
        raise EngineError("it is not installed")

    monkeypatch.setattr(module.latency, "machine_of", missing)
    assert width_step("opencv", None, lambda step: None) is None


def test_a_damaged_step_is_refused(tmp_path):
    path = tmp_path / "t.json"
    LatencyTable(path, "m").keep_width_step(8)
    path.write_text(path.read_text().replace(": 8", ": 0"))
    with pytest.raises(DarknetError, match="is a damaged table of latencies"):
        read_tables(path)


@pytest.mark.parametrize("name", ["cv2", "onnxruntime"])
def test_real_engines_have_a_step(name):
    pytest.importorskip(name, reason=f"{name} is not installed")
    engine = {"cv2": "opencv"}.get(name, name)
    assert width_step(engine, None, lambda step: None) in STEPS
