"""Latencies as engines measure them, section by section."""

import pytest
from cfgs import NET, conv
from random_cfg import sample
from timed import TIMED, ready

from pruning.measure.latency import (
    machine,
    machine_of,
    profiler_of,
    section_times,
    timed_engine,
)
from pruning.proof.engines.base import EngineError, Profile
from pruning.registry import TIMED as ENGINES

PACKAGES = {"opencv": "cv2"}  # where they are named otherwise


@pytest.mark.parametrize("name", ENGINES)
def test_every_section_has_its_time(name):
    pytest.importorskip(PACKAGES.get(name, name), reason=f"{name} is not installed")
    text = TIMED.replace("filters=4", "filters=6")
    text += "[yolo]\nmask=0\nanchors=4,4\nnum=1\nclasses=1\n"
    network = ready(text)
    timings = profiler_of(name)(network, 2, 0)
    assert list(timings.sections) == list(range(len(network.layers)))
    assert all(ms >= 0 for ms in timings.sections.values())
    assert min(timings.sections[i] for i in (0, 1, 2, 5)) > 0
    assert timings.ms >= sum(timings.sections.values()) * (1 - 1e-9)
    assert timings.engine.split()[0].lower() == name
    assert machine_of(name) == machine(timings)


def test_torch_measures_what_opencv_cant_run():
    network = ready(NET + conv(8, activation="relu6") + conv(3))
    with pytest.raises(EngineError):
        timed_engine(network, "opencv")
    assert timed_engine(network) == "torch"


def test_opencv_measures_the_rest():
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    assert timed_engine(ready(TIMED)) == "opencv"


def test_an_engine_that_is_asked_for_measures():
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    assert timed_engine(ready(TIMED), "onnxruntime") == "onnxruntime"
    assert timed_engine(ready(TIMED), "torch") == "torch"


def test_machines_are_distinguished():
    first, second = Profile("OpenCV 4.9", 1, 1, {}), Profile("OpenCV 4.9", 2, 1, {})
    assert machine(first) != machine(second)
    assert machine(first).endswith("1 thread, OpenCV 4.9")


def test_sections_are_compared_as_they_were_numbered():
    network = sample(NET + conv(4) * 3).network
    before = Profile("e", 1, 3.0, {0: 1.0, 1: 2.0, 2: 3.0})
    after = Profile("e", 1, 3.0, {0: 0.5, 1: 0.25})
    times = section_times(network, before, after, {0: 0, 1: 2})
    rows = [(s.index, s.section, s.before, s.after) for s in times.sections]
    assert rows == [
        (0, "convolutional", 1.0, 0.5),
        (1, "convolutional", 2.0, None),
        (2, "convolutional", 3.0, 0.25),
    ]
    assert section_times(network, before, Profile("f", 1, 1.0, {}), {}) is None
    assert section_times(network, None, after, {}) is None
