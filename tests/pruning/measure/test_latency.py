"""Latencies as engines measure them, section by section."""

import pytest
from cfgs import NET, conv
from random_cfg import sample
from timed import TIMED, ready

from pruning.measure.latency import (
    machine,
    opencv_profile,
    profiler_for,
    section_times,
    torch_profile,
)
from pruning.proof.engines.base import EngineError, Profile


@pytest.mark.parametrize("profile", [opencv_profile, torch_profile])
def test_every_section_has_its_time(profile):
    if profile is opencv_profile:
        pytest.importorskip("cv2", reason="OpenCV is not installed")
    text = TIMED.replace("filters=4", "filters=6")
    text += "[yolo]\nmask=0\nanchors=4,4\nnum=1\nclasses=1\n"
    network = ready(text)
    timings = profile(network, 2, 0)
    assert list(timings.sections) == list(range(len(network.layers)))
    assert all(ms >= 0 for ms in timings.sections.values())
    assert min(timings.sections[i] for i in (0, 1, 2, 5)) > 0
    assert timings.ms >= sum(timings.sections.values()) * (1 - 1e-9)
    assert timings.engine.split()[0] in ("OpenCV", "torch")


def test_torch_measures_what_opencv_cant_run():
    network = ready(NET + conv(8, activation="relu6") + conv(3))
    with pytest.raises(EngineError):
        opencv_profile(network, 1, 0)
    assert profiler_for(network) is torch_profile


def test_opencv_measures_the_rest():
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    assert profiler_for(ready(TIMED)) is opencv_profile


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
