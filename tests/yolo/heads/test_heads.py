"""Each head's output and boxes against loops over cells, written from Darknet's C."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from cfgs import net, plain
from networks import build, keys_asked, random_input

from yolo.layers import registered

WIDTH, HEIGHT = 6, 4  # of the map that enters a head: the image is twice as large
HEADS = sorted(name for name, kind in registered().items() if kind.is_head)
HEADS.remove("ssd")  # has a file of its own


def before(filters, size=1, stride=2):
    return net(2 * WIDTH, 2 * HEIGHT) + plain(filters, size, stride=stride, pad=None)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, temperature=1.0):
    e = np.exp(x / temperature - np.max(x / temperature))
    return e / e.sum()


def cells():
    """Row and column of every cell."""
    return [(row, column) for row in range(HEIGHT) for column in range(WIDTH)]


@dataclass(frozen=True)
class Case:
    """A cfg whose last section is a head.

    `forward` gives one image's (C, H, W) output from its input; `boxes` lists, from the input, the
    (centre x, y, width, height, objectness, class probabilities …) that Darknet would report.
    """

    text: str
    forward: Callable
    boxes: Callable | None = None

    def __str__(self) -> str:
        return self.text.rsplit("[", 1)[1].replace("]", "").strip().replace("\n", " ")


def yolo(options, classes, anchors, scale=1.0, new_coords=False):
    entries = 5 + classes

    def forward(x):
        out = x.copy()
        for entry in range(entries * len(anchors)):
            if entry % entries not in (2, 3) and not new_coords:
                out[entry] = sigmoid(out[entry])
            if entry % entries in (0, 1):
                out[entry] = scale * out[entry] - 0.5 * (scale - 1)
        return out

    def boxes(x):
        out = forward(x)
        for number, (width, height) in enumerate(anchors):
            for row, column in cells():
                t = out[number * entries : (number + 1) * entries, row, column]
                if new_coords:
                    w, h = 4 * t[2] ** 2 * width, 4 * t[3] ** 2 * height
                else:
                    w, h = math.exp(t[2]) * width, math.exp(t[3]) * height
                x_, y_ = (column + t[0]) / WIDTH, (row + t[1]) / HEIGHT
                yield [x_, y_, w / (2 * WIDTH), h / (2 * HEIGHT), *t[4:]]

    text = before(entries * len(anchors)) + f"[yolo]\nclasses={classes}\n{options}"
    return Case(text, forward, boxes)


def gaussian(options, classes, anchors, scale=1.0, point=0.0):
    entries = 9 + classes

    def forward(x):
        out = x.copy()
        for entry in range(entries * len(anchors)):
            if entry % entries not in (4, 6):
                out[entry] = sigmoid(out[entry])
            if entry % entries in (0, 2):
                out[entry] = scale * out[entry] - 0.5 * (scale - 1)
        return out

    def boxes(x):
        out = forward(x)
        for number, (width, height) in enumerate(anchors):
            for row, column in cells():
                t = out[number * entries : (number + 1) * entries, row, column]
                w = math.exp(t[4]) * width / (2 * WIDTH)
                h = math.exp(t[6]) * height / (2 * HEIGHT)
                x_, y_ = (column + t[0]) / WIDTH + point * w, (row + t[2]) / HEIGHT + point * h
                certainty = 1 - (t[1] + t[3] + t[5] + t[7]) / 4
                yield [x_, y_, w, h, t[8] * certainty, *t[9:]]

    text = before(entries * len(anchors)) + f"[Gaussian_yolo]\nclasses={classes}\n{options}"
    return Case(text, forward, boxes)


def region(options, classes, anchors, soft):
    entries = 5 + classes

    def numbers(x):
        """(cell, anchor) after (cell, anchor), as AlexeyAB's Darknet stores them."""
        for row, column in cells():
            for number in range(len(anchors)):
                t = x[number * entries : (number + 1) * entries, row, column].copy()
                t[4] = sigmoid(t[4])
                t[5:] = softmax(t[5:]) if soft else t[5:]
                yield row, column, number, t

    def forward(x):
        return np.concatenate([t for *_, t in numbers(x)])

    def boxes(x):
        for row, column, number, t in numbers(x):
            centre = (column + sigmoid(t[0])) / WIDTH, (row + sigmoid(t[1])) / HEIGHT
            width, height = anchors[number]
            size = math.exp(t[2]) * width / WIDTH, math.exp(t[3]) * height / HEIGHT
            yield [*centre, *size, *t[4:]]

    return Case(before(entries * len(anchors)) + "[region]\n" + options, forward, boxes)


def detection(options, classes, count, side, soft, root):
    cells_ = side * side

    def forward(x):
        flat = x.ravel().copy()
        for cell in range(cells_ if soft else 0):
            part = slice(cell * classes, (cell + 1) * classes)
            flat[part] = softmax(flat[part])
        return flat

    def boxes(x):
        out = forward(x)
        for cell in range(cells_):
            row, column = divmod(cell, side)
            for number in range(cell * count, (cell + 1) * count):
                first = cells_ * (classes + count) + 4 * number
                x_, y_, w, h = out[first : first + 4]
                size = (w * w, h * h) if root else (w, h)
                objectness = out[cells_ * classes + number]
                probabilities = out[cell * classes : (cell + 1) * classes]
                centre = (column + x_) / side, (row + y_) / side
                yield [*centre, *size, objectness, *probabilities]

    outputs = cells_ * (5 * count + classes)
    text = "[net]\nwidth=4\nheight=3\nchannels=2\n[connected]\nactivation=linear\n"
    return Case(f"{text}output={outputs}\n[detection]\ncoords=4\n{options}", forward, boxes)


def soft(options, groups=1, temperature=1.0):
    def forward(x):
        parts = np.split(x.ravel(), groups)
        return np.concatenate([softmax(part, temperature) for part in parts])

    return Case(before(6) + "[softmax]\n" + options, forward)


ANCHORS = "anchors=1,2, 3,4.5, 5,6, 7,8\nnum=4\n"
CASES = {
    "yolo": [
        yolo(ANCHORS + "mask=0,1,2,3\n", 2, [(1, 2), (3, 4.5), (5, 6), (7, 8)]),
        yolo(ANCHORS + "mask=3,1\n", 3, [(7, 8), (3, 4.5)]),
        yolo(ANCHORS, 1, [(1, 2), (3, 4.5), (5, 6), (7, 8)]),
        yolo("anchors=3,4\n", 1, [(3, 4)]),
        yolo("num=2\n", 1, [(0.5, 0.5), (0.5, 0.5)]),
        yolo(ANCHORS + "mask=1\nscale_x_y=1.2\n", 80, [(3, 4.5)], scale=1.2),
        yolo(ANCHORS + "mask=2\nnew_coords=1\n", 2, [(5, 6)], new_coords=True),
        yolo(
            ANCHORS + "mask=2,0\nnew_coords=1\nscale_x_y=2.0\ncounters_per_class=9,8\n",
            2,
            [(5, 6), (1, 2)],
            scale=2.0,
            new_coords=True,
        ),
    ],
    "Gaussian_yolo": [
        gaussian(ANCHORS + "mask=0,2\n", 2, [(1, 2), (5, 6)]),
        gaussian(ANCHORS + "mask=3\nscale_x_y=1.1\n", 1, [(7, 8)], scale=1.1),
        gaussian(ANCHORS + "mask=1\nyolo_point=left_top\n", 2, [(3, 4.5)], point=0.5),
        gaussian(ANCHORS + "mask=1\nyolo_point=right_bottom\n", 2, [(3, 4.5)], point=-0.5),
        gaussian("num=1\nyolo_point=center\ncounters_per_class=4\n", 1, [(0.5, 0.5)]),
    ],
    "region": [
        region(ANCHORS + "classes=3\nsoftmax=1\n", 3, [(1, 2), (3, 4.5), (5, 6), (7, 8)], True),
        region("anchors=1,2, 3,4\nnum=2\nclasses=2\ncoords=4\n", 2, [(1, 2), (3, 4)], False),
        region("", 20, [(0.5, 0.5)], False),
    ],
    "detection": [
        detection("classes=3\nnum=2\nside=3\nsoftmax=1\nsqrt=1\n", 3, 2, 3, True, True),
        detection("classes=2\nnum=3\nside=2\n", 2, 3, 2, False, False),
        detection("", 1, 1, 7, False, False),
    ],
    "softmax": [soft(""), soft("groups=4\n", 4), soft("temperature=2.5\n", 1, 2.5)],
}
# without these keys a section computes, with them it is refused: tests/test_cfg.py
REFUSED = {"tree", "dontload", "dontloadscales"}
PARAMETERS = [(name, case) for name, cases in CASES.items() for case in cases]


def run(case):
    """The head, its input and its output; softmax and sigmoid see small and large numbers."""
    network = build(case.text)
    with torch.no_grad():
        last = len(network.layers) - 1
        outputs = network(random_input(network) * 2, [last - 1, last])
    return network.layers[-1], outputs[last - 1].double().numpy(), outputs[last]


@pytest.mark.parametrize("name", HEADS)
def test_every_head_and_each_of_its_keys_has_a_case(name):
    networks = [build(case.text) for case in CASES[name]]
    asked = set().union(*map(keys_asked, networks))
    covered = set().union(*(network.layers[-1].section.options for network in networks))
    assert asked - REFUSED <= covered


@pytest.mark.parametrize(("name", "case"), PARAMETERS, ids=str)
def test_forward(name, case):
    layer, x, out = run(case)
    assert layer.section.type == name
    shape = layer.out_shape
    assert out.shape == (2, shape.channels, shape.height, shape.width)
    expected = np.stack([case.forward(image).reshape(out.shape[1:]) for image in x])
    np.testing.assert_allclose(out.numpy(), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("name", "case"), [p for p in PARAMETERS if p[1].boxes], ids=str)
def test_decode(name, case):
    layer, x, out = run(case)
    expected = np.stack([list(case.boxes(image)) for image in x])
    boxes = layer.decode(out)
    assert boxes.shape == expected.shape
    np.testing.assert_allclose(boxes.numpy(), expected, rtol=5e-5, atol=5e-6)


def test_heads_and_what_enters_them():
    head = "[yolo]\nclasses=1\nnum=1\nanchors=1,2\n"
    text = before(6) + head + "[route]\nlayers=0\n" + before(6, stride=1).split("channels=3\n")[1]
    network = build(text + head)
    assert network.heads == [1, 4]
    assert network.head_inputs == [0, 3]
    assert list(network(random_input(network))) == [1, 4]
    assert build(before(6)).heads == [0]
    assert build(before(6)).head_inputs == [0]
    assert build(before(6) + "[softmax]\n[cost]\n").heads == [1]
