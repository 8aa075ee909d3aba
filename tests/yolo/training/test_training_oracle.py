"""Losses and a training step against AlexeyAB's Darknet, through the oracle beside the project."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import build
from oracle import ORACLE, ask
from training_cases import BATCH, CLASSIFIERS, DETECTORS, scene

from yolo.heads.region.loss import WARM_UP
from yolo.heads.trained import trained_heads
from yolo.models.weights import load_weights, save_weights

TOLERANCE = 1e-5
MOST_TRUTHS = 200
SEEN = [WARM_UP - BATCH - 1, WARM_UP - BATCH]  # before these images: the last of the warm-up, none

# for every case: deltas of what enters the head, cost, and the weights after the update
WORKER = """
import ctypes as C, os, subprocess, sys, numpy, refnet
folder, source, *names = sys.argv[1:]
built = folder + "/training.so"
subprocess.run(["cc", "-shared", "-fPIC", "-w", "-I" + refnet.ALEXEY_INCLUDE, "-o", built, source],
               check=True)
shim = C.CDLL(built)
pointer = C.c_void_p
shim.train.argtypes = [pointer] * 5 + [C.c_ulonglong]
shim.delta.argtypes, shim.delta.restype = [pointer, C.c_int, pointer], C.POINTER(C.c_float)
shim.cost.argtypes, shim.cost.restype = [pointer, C.c_int], C.c_float
for name in names:
    path, scene = f"{folder}/{name}", numpy.load(f"{folder}/{name}.npz")
    net = refnet.DarknetRef("alexey", path + ".cfg", path + ".weights", batch=0)
    x, truth = (numpy.ascontiguousarray(scene[k], numpy.float32) for k in ("images", "truth"))
    datum, update = (C.cast(f, pointer) for f in
                     (net.lib.train_network_datum, net.lib.update_network))
    with refnet.silence():
        shim.train(datum, update, net.net, x.ctypes.data, truth.ctypes.data, int(scene["seen"]))
    count, costs = C.c_int(), [shim.cost(net.net, int(i)) for i in scene["costs"]]
    numbers = shim.delta(net.net, int(scene["source"]), C.byref(count))
    delta = numpy.ctypeslib.as_array(numbers, (count.value,)).copy()
    net.save(path + ".after")
    numpy.savez(path + ".answer.npz", delta=delta, costs=costs)
    print(name, flush=True)
"""
CASES = [(text, seed) for text in DETECTORS for seed in (0, 1)] + [(t, 0) for t in CLASSIFIERS]


def named(number):
    return f"case{number}"


def seen(seed):
    return SEEN[seed % 2]


def truth(sample):
    """The targets as Darknet has them: boxes with class and track, or labels."""
    if not len(sample.targets.boxes):
        return sample.targets.labels.numpy()
    filled = np.zeros((BATCH, MOST_TRUTHS, 6), np.float32)
    for image in range(BATCH):
        boxes = sample.targets.boxes[sample.targets.boxes[:, 0] == image].numpy()
        filled[image, : len(boxes), :4], filled[image, : len(boxes), 4] = boxes[:, 2:], boxes[:, 1]
    return filled


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The folder with Darknet's answers; a crash loses only one."""
    if not ORACLE.is_dir():
        pytest.skip("needs the folder ../shared with the oracle")
    if not Path(os.environ.get("ALEXEY_LIB", "missing")).is_file():
        pytest.skip("needs a build of AlexeyAB's Darknet: ALEXEY_LIB and ALEXEY_INCLUDE")
    folder = tmp_path_factory.mktemp("training")
    for number, (text, seed) in enumerate(CASES):
        sample = scene(text, seed)
        path = folder / named(number)
        sample.network.cfg.write(path.with_suffix(".cfg"))
        save_weights(sample.network, path.with_suffix(".weights"))
        np.savez(
            path.with_suffix(".npz"),
            images=sample.images.numpy(),
            truth=truth(sample),
            seen=seen(seed),
            source=sample.network.head_inputs[0],
            costs=list(trained_heads(sample.network.layers)),
        )
    source = Path(__file__).with_name("training_oracle.c")
    waiting = [named(number) for number in range(len(CASES))]
    ask(WORKER, [str(folder), str(source)], folder, waiting)
    return folder


@pytest.fixture(scope="module", params=range(len(CASES)), ids=lambda number: repr(CASES[number]))
def case(request, answers):
    """A scene, what ours makes of it (x with its gradient and the loss), and Darknet's answer."""
    text, seed = CASES[request.param]
    path = answers / named(request.param)
    crashed = Path(f"{path}.crashed")
    assert not crashed.exists(), crashed.read_text()
    sample = scene(text, seed)
    with np.load(f"{path}.answer.npz") as file:
        answer = dict(file)
    return sample, learn(sample, seen(seed)), answer, f"{path}.after"


def learn(sample, before):
    """The loss, and the gradients of what enters the head and of the network's tensors."""
    sample.network.requires_grad_(True)
    source = sample.network.head_inputs[0]
    x = sample.network(sample.images, [source])[source]
    x.retain_grad()
    (rule,) = trained_heads(sample.network.layers).values()
    result = rule.loss(x, sample.targets, before + BATCH)
    result.total.backward()
    return x, result


def test_gradients_are_darknets(case):
    sample, (x, _), answer, _ = case
    expected = answer["delta"].reshape(x.shape)
    assert np.abs(expected).max() > 0.01
    # Gaussian_yolo adds up deltas of several hundred that nearly cancel out
    gaussian = sample.head.section.name == "Gaussian_yolo"
    limit = 10 * TOLERANCE if gaussian else TOLERANCE
    np.testing.assert_allclose(-x.grad.numpy(), expected, rtol=limit, atol=limit)


def test_costs_are_darknets(case):
    sample, (_, result), answer, _ = case
    section = sample.head.section
    parts = result.parts
    if section.type == "softmax":
        pytest.skip("of labels that aren't 0 or 1 Darknet reports the sum of all -log p")
    kind = section.text("iou_loss", "mse")
    ours = result.total.item()
    if section.type == "yolo" and kind != "mse":
        mean = parts["box"] / parts["count"]
        if kind in ("diou", "ciou"):
            mean = section.number("iou_normalizer", 0.75) * (1 - parts["iou"])
        scores = parts["objectness"] + parts["class"]
        ours = mean + section.number("obj_normalizer", 1.0) * scores
    assert ours == pytest.approx(answer["costs"].item(), rel=TOLERANCE)


def test_a_step_changes_the_weights_as_darknets_does(case):
    sample, _, _, after = case
    rate = sample.network.cfg.net.number("learning_rate")
    theirs = build(sample.network.cfg.to_bytes().decode())
    load_weights(theirs, after)
    moved = 0
    for ours, their in zip(sample.network.parameters(), theirs.parameters(), strict=True):
        step = -rate / BATCH * ours.grad
        moved = max(moved, step.abs().max())
        largest = max(step.abs().max().item(), 0.1)
        torch.testing.assert_close(
            ours.detach() + step, their.detach(), rtol=TOLERANCE, atol=TOLERANCE * largest
        )
    assert moved > 1e-4
