"""[ssd] and [l2norm]: priors, boxes, matching, loss and NMS against loops and published values."""

import itertools
import math

import cv2
import numpy as np
import pytest
import torch
from cfgs import maxpool, net, plain, route
from networks import build, keys_asked, random_input

from yolo.cfg import Cfg
from yolo.detections import Candidates, detect, suppression
from yolo.errors import CfgError
from yolo.heads.common.loss import GroundTruth
from yolo.heads.ssd.loss import assign
from yolo.heads.ssd.prior_boxes import PriorOptions, prior_boxes
from yolo.network import Network
from yolo.nms import Nms

CLASSES = 3
KEYS = """classes=3
loc=1,-3
conf=3,-1
min_sizes=4,10
max_sizes=8,14
steps=4,8
aspect_ratios=2|2,3
flip=1
clip=0
offset=0.5
variance=0.1,0.1,0.2,0.3
overlap=0.4
neg_pos=2
conf_thresh=0.05
nms=0.4
top_k=20
keep_top_k=10
"""


def text(keys=KEYS, boxes=(4, 6), width=24, height=16):
    """Two maps, a quarter and an eighth of the image."""
    return (
        net(width, height)
        + plain(5, 3, stride=4)
        + plain(boxes[0] * 4, 3)
        + route(0)
        + plain(boxes[0] * (1 + CLASSES), 3)
        + route(0)
        + plain(5, 3, stride=2)
        + plain(boxes[1] * 4, 3)
        + route(5)
        + plain(boxes[1] * (1 + CLASSES), 3)
        + f"[ssd]\n{keys}"
    )


def expected_priors(width=24, height=16):
    """Loops as in prior_box_layer.cpp."""
    priors = []
    for smallest, largest, ratios, step in ((4, 8, (2,), 4), (10, 14, (2, 3), 8)):
        for row in range(-(-height // step)):
            for column in range(-(-width // step)):
                shapes = [(smallest, smallest), (math.sqrt(smallest * largest),) * 2]
                for ratio in ratios:
                    root = math.sqrt(ratio)
                    shapes += [
                        (smallest * root, smallest / root),
                        (smallest / root, smallest * root),
                    ]
                centre = (column + 0.5) * step / width, (row + 0.5) * step / height
                priors += [(*centre, w / width, h / height) for w, h in shapes]
    return np.array(priors)


@pytest.fixture
def head():
    return build(text()).layers[-1]


def test_every_key_is_in_the_case():
    network = build(text())
    assert keys_asked(network) - {"dontload", "dontloadscales"} <= set(
        network.layers[-1].section.options
    )


def test_priors(head):
    np.testing.assert_allclose(head.priors.numpy(), expected_priors(), rtol=1e-6)


def test_priors_of_ssd300():
    """Of the paper: 8,732; the first and the last as amdegroot's PriorBox gives them."""
    layer = Network(Cfg.load("cfg/ssd300-vgg16-voc.cfg")).layers[-1]
    priors = layer.priors
    assert priors.shape == (8732, 4)
    first = [0.0133, 0.0133, 0.1, 0.1], [0.0133, 0.0133, 0.1414, 0.1414]
    np.testing.assert_allclose(priors[:2], first, atol=1e-4)
    last = [0.5, 0.5, 0.6223, 1.2445]
    np.testing.assert_allclose(priors[-1], last, atol=1e-4)


def test_clipped_priors_without_steps():
    """Places lie evenly on an input of any size."""
    priors = prior_boxes([PriorOptions(6, 0, (), None)], [(2, 3)], (20, 24))
    assert priors[:, 0].tolist() == pytest.approx([4 / 24, 0.5, 20 / 24] * 2)
    assert priors[:, 1].tolist() == pytest.approx([0.25] * 3 + [0.75] * 3)
    whole = prior_boxes([PriorOptions(90, 0, (2,), None)], [(2, 3)], (20, 24))
    clipped = prior_boxes([PriorOptions(90, 0, (2,), None)], [(2, 3)], (20, 24), clip=2)
    torch.testing.assert_close(clipped, whole.clamp(max=1))
    priors = prior_boxes([PriorOptions(10, 0, (), None)], [(2, 3)], (20, 24), clip=1)
    low, high = priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2
    assert low.min() >= 0
    assert high.max() <= 1


def test_published_counts():
    """26,285,486: amdegroot/ssd.pytorch's SSD300 for VOC, the factors of L2Norm among them."""
    network = Network(Cfg.load("cfg/ssd300-vgg16-voc.cfg"))
    assert network.count_parameters() == 26285486
    widths = [layer.out_shape for layer in network.layers if layer.section.type == "l2norm"]
    assert [(s.channels, s.height) for s in widths] == [(512, 38)]
    assert [network.layers[i].out_shape.height for i in network.layers[-1].sources[:6]] == [
        38,
        19,
        10,
        5,
        3,
        1,
    ]


def test_forward_and_decode():
    network = build(text())
    head, x = network.layers[-1], random_input(network)
    with torch.no_grad():
        outputs = network(x, [*head.sources, head.section.index])
    out = outputs[head.section.index]
    boxes = head.decode(out)
    assert out.shape == (2, 4 + 1 + CLASSES, len(head.priors), 1)
    priors, variance = expected_priors(), np.array([0.1, 0.1, 0.2, 0.3])
    for image, row in itertools.product(range(2), range(len(priors))):
        box, scores = _raw(outputs, head, image, row)
        np.testing.assert_allclose(out[image, :, row, 0], [*box, *scores], rtol=1e-6)
        p, shift = priors[row], box * variance
        wanted = [p[0] + shift[0] * p[2], p[1] + shift[1] * p[3], *(p[2:] * np.exp(shift[2:]))]
        shares = np.exp(scores - scores.max())
        wanted += [1.0, *(shares / shares.sum())[1:]]
        np.testing.assert_allclose(boxes[image, row], wanted, rtol=2e-5, atol=1e-6)


def _raw(outputs, head, image, row):
    """The numbers of a prior, by counting through maps, rows, columns and boxes."""
    for number, boxes in enumerate((4, 6)):
        height, width = head.maps[number]
        if row < height * width * boxes:
            cell, box = divmod(row, boxes)
            y, x = divmod(cell, width)
            loc, conf = outputs[head.sources[number]], outputs[head.sources[2 + number]]
            return (
                loc[image, 4 * box : 4 * box + 4, y, x].numpy().astype(float),
                conf[image, (1 + CLASSES) * box : (1 + CLASSES) * (box + 1), y, x].numpy(),
            )
        row -= height * width * boxes
    raise AssertionError(row)


def test_shifts_are_the_inverse_of_boxes(head):
    boxes = torch.rand(len(head.priors), 4) * 0.8 + 0.05
    decoded = head.boxes(head.shifts(boxes, head.priors))
    torch.testing.assert_close(decoded, boxes, rtol=1e-5, atol=1e-6)


def overlap(a, b):
    low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    high = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    common = np.prod((high - low).clip(0))
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def truths(random, images, most, side=0.5):
    """(M, 6), grouped by nothing in particular."""
    count = random.integers(0, most + 1, images)
    rows = [
        (n, random.integers(CLASSES), *random.uniform(0.1, 0.9, 2), *random.uniform(0.05, side, 2))
        for n in range(images)
        for _ in range(count[n])
    ]
    random.shuffle(rows)
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)


def matched(priors, boxes, images, least):
    """{(image, prior): truth} by Caffe's two steps, pair after pair."""
    owner = {}
    for image in range(images):
        mine = [n for n, row in enumerate(boxes) if int(row[0]) == image]
        pairs = {(n, p): overlap(boxes[n][2:], priors[p]) for n in mine for p in range(len(priors))}
        free = dict(pairs)
        while free:
            n, p = max(free, key=free.get)
            if free[n, p] > 1e-6:
                owner[image, p] = n
            free = {key: v for key, v in free.items() if key[0] != n and key[1] != p}
        for p in range(len(priors)):
            best = max(mine, key=lambda n: pairs[n, p], default=None)
            if (image, p) not in owner and best is not None and pairs[best, p] >= least:
                owner[image, p] = best
    return owner


@pytest.mark.parametrize("seed", range(12))
def test_matching(seed):
    """With priors of all sizes; a small truth overlaps two of the same size alike."""
    random = np.random.default_rng(seed)
    boxes = truths(random, 3, 12, side=(0.5, 0.15)[seed % 2])
    centres, sizes = random.uniform(0, 1, (40, 2)), random.uniform(0.05, 0.6, (40, 2))
    priors = torch.from_numpy(np.concatenate((centres, sizes), 1)).float()
    matches = assign(priors, boxes, 3, 0.4)
    got = zip(
        matches.images.tolist(), matches.priors.tolist(), matches.truths.tolist(), strict=True
    )
    expected = matched(priors.double().numpy(), boxes.double().numpy(), 3, 0.4)
    assert {(image, prior): n for image, prior, n in got} == expected


def test_no_truth_goes_without_a_prior(head):
    """Twenty truths of the same place and size have twenty priors; more than there are, all."""
    boxes = torch.tensor([[0, 1, 0.5, 0.5, 0.2, 0.2]]).repeat(20, 1)
    matches = assign(head.priors, boxes, 1, 2.0)
    assert sorted(matches.truths.tolist()) == list(range(20))
    crowd = boxes[:1].repeat(len(head.priors) + 5, 1)
    touching = sum(overlap(boxes[0, 2:].numpy(), prior) > 1e-6 for prior in head.priors.numpy())
    assert len(assign(head.priors, crowd, 1, 2.0).priors) == touching > 20


@pytest.mark.parametrize("seed", range(6))
def test_loss(head, seed):
    random = np.random.default_rng(seed)
    boxes = truths(random, 3, 4) if seed else torch.zeros(0, 6)
    x = torch.from_numpy(random.normal(0, 2, (3, 4 + 1 + CLASSES, len(head.priors), 1)))
    x = x.float().requires_grad_()
    result = head.loss(x, GroundTruth(boxes, torch.zeros(3, 0)), 0)
    rows = x.detach().double().numpy()[..., 0].transpose(0, 2, 1)
    expected, count = _loss(head, rows, boxes.double().numpy())
    assert result.total.item() == pytest.approx(expected, rel=1e-5)
    assert result.parts["count"] == count
    assert result.parts["box"] + result.parts["class"] == pytest.approx(expected, rel=1e-5)
    result.total.backward()
    assert x.grad.isfinite().all()
    assert (x.grad != 0).any() == bool(count)


def _loss(head, rows, boxes):
    priors = head.priors.double().numpy()
    owner = matched(priors, boxes, len(rows), head.rule.overlap)
    total = 0.0
    for image, own in enumerate(rows):
        positive = {p: n for (i, p), n in owner.items() if i == image}
        logs = own[:, 4:] - np.log(np.exp(own[:, 4:]).sum(1, keepdims=True))
        for p, n in positive.items():
            box, prior = boxes[n][2:], priors[p]
            wanted = [*((box[:2] - prior[:2]) / prior[2:]), *np.log(box[2:] / prior[2:])]
            away = np.abs(own[p, :4] - np.array(wanted) / head.variance)
            total += np.where(away < 1, away**2 / 2, away - 0.5).sum()
            total -= logs[p, 1 + int(boxes[n][1])]
        others = sorted(-logs[p, 0] for p in range(len(own)) if p not in positive)
        take = min(int(head.rule.neg_pos * len(positive)), len(others))
        total += sum(others[len(others) - take :])
    return total * len(rows) / max(len(owner), 1), len(owner)


@pytest.mark.parametrize("seed", range(8))
def test_nms_is_opencvs(seed):
    random = np.random.default_rng(seed)
    count, classes, top = 60, 4, (0, 15)[seed % 2]
    boxes = random.uniform(0.2, 0.8, (count, 4)).astype(np.float32)
    confidences = random.uniform(0, 1, (count, classes)).astype(np.float32)
    confidences[confidences < 0.3] = 0
    nms = Nms(0.45, per_class=top or count, per_image=0)
    detections = Candidates(torch.from_numpy(boxes), torch.from_numpy(confidences)).suppressed(nms)
    corners = np.concatenate((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]), 1).astype(float)
    expected = set()
    for c in range(classes):
        kept = cv2.dnn.NMSBoxes(corners, confidences[:, c].astype(float), 0.0, 0.45, top_k=top)
        expected |= {(round(float(confidences[k, c]), 6), c) for k in kept}
    rows = zip(detections.confidences.tolist(), detections.classes.tolist(), strict=True)
    assert {(round(value, 6), c) for value, c in rows} == expected


def test_the_surest_of_an_image_are_left():
    network = build(text(KEYS.replace("conf_thresh=0.05", "conf_thresh=0.2")))
    head = network.layers[-1]
    assert suppression(network) == Nms(0.4, per_class=20, per_image=10)
    assert suppression(network, 0.9) == Nms(0.9, per_class=20, per_image=10)
    with torch.no_grad():
        outputs = network(5 * random_input(network))
    for detections in detect(network, outputs, 0.01, suppression(network)):
        assert 0 < len(detections) <= 10
        assert detections.confidences.min() > 0.2
        assert detections.confidences.tolist() == sorted(
            detections.confidences.tolist(), reverse=True
        )
    assert head.section.index in outputs


def test_l2norm():
    layer = "[l2norm]\nscale=20\neps=1e-10\n"
    network = build(net(4, 3) + layer)
    factors = torch.tensor([20.0, 5.0, -1.0])
    network.layers[0].store({"factors": factors})
    x = random_input(network)
    x[:, :, 0, 0] = 0
    expected = torch.nn.functional.normalize(x.double(), dim=1) * factors.double()[:, None, None]
    out = network(x)[0]
    torch.testing.assert_close(out.double(), expected, rtol=1e-6, atol=1e-6)
    assert network.count_parameters() == 3
    x = x.requires_grad_()
    network(x)[0].sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("behind", ["[dropout]\n", "[cost]\n", "[route]\nlayers=-1\n"])
def test_nothing_uses_a_list_of_boxes(behind):
    with pytest.raises(
        CfgError, match=r"takes its input from an \[ssd\], whose output is a list of boxes"
    ):
        build(text() + behind)


def test_l2norm_of_half_floats_and_doubles():
    network = build(net(4, 3) + "[l2norm]\nscale=2\n")
    network.layers[0].store({"factors": torch.full((3,), 2.0)})
    x = random_input(network)
    x[:, :, 0] = 0
    half = network.layers[0](x.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), network(x)[0], rtol=1e-3, atol=1e-3)
    network.double()
    expected = 2 * torch.nn.functional.normalize(x.double(), dim=1)
    torch.testing.assert_close(network(x.double())[0], expected, rtol=1e-9, atol=1e-9)


def test_preparation_of_the_input():
    """image_mean and image_scale of [net] are those of blobFromImage."""
    plain = net(4, 3) + maxpool(1, 1)
    prepared = plain.replace(
        "channels=3\n", "channels=3\nimage_mean=123,117,104\nimage_scale=0.017\n"
    )
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    expected = cv2.dnn.blobFromImage(pixels, 0.017, mean=(123, 117, 104))
    x = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).float() / 255
    np.testing.assert_allclose(build(prepared)(x)[0], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(build(plain)(x)[0], x)
    darknets = "channels=3\npolicy=step\nstep=10\nscale=.1\n"  # of the learning rate
    torch.testing.assert_close(build(plain.replace("channels=3\n", darknets))(x)[0], x)
    single = plain.replace("channels=3\n", "channels=3\nimage_mean=128\n")
    torch.testing.assert_close(build(single)(x)[0], 255 * x - 128)
    with pytest.raises(CfgError, match="image_mean has 2 values for 3 channels"):
        build(plain.replace("channels=3\n", "channels=3\nimage_mean=1,2\n"))
    with pytest.raises(CfgError, match="image_scale=0: expected more than 0"):
        build(plain.replace("channels=3\n", "channels=3\nimage_scale=0\n"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("conf=3,-1", "conf=3", "loc has 2 layers, conf has 1"),
        ("min_sizes=4,10", "min_sizes=4", "min_sizes has 1 values for 2 maps"),
        ("steps=4,8", "steps=4,8,16", "steps has 3 values for 2 maps"),
        ("=2|2,3", "=2|2|3", "aspect_ratios has 3 lists for 2 maps"),
        ("=2|2,3", "=2|2,-3", "expected more than 0"),
        ("=2|2,3", "=2", "4 prior boxes a cell and classes=3 need filters=16 in layer 6 of loc"),
        ("classes=3", "classes=4", "need filters=20 in layer 3 of conf, which has 16"),
        ("loc=1,-3", "loc=1,9", "points to a layer that comes later"),
        ("loc=1,-3", "loc=-3,1", "but layer 3 of conf gives"),
        ("max_sizes=8,14", "max_sizes=3,14", "max_sizes has 3 where min_sizes has 4"),
        ("variance=0.1,0.1,0.2,0.3", "variance=0.1", "expected 4 numbers above 0"),
        ("neg_pos=2", "neg_pos=0", "neg_pos=0: expected more than 0"),
        ("neg_pos=2", "random=1", "random= (inputs of several sizes) can't be combined with"),
        ("nms=0.4", "nms=-1", "nms=-1: expected 0 to 1"),
        ("conf=3,-1", "conf=3,1", "the same layer is listed twice"),
        ("steps=4,8", "steps=4,90", "reach beyond an input of 24x16"),
    ],
)
def test_sections_that_do_not_fit(old, new, message):
    assert old in KEYS
    with pytest.raises(CfgError, match=r"\[ssd\] .*") as raised:
        _ = build(text(KEYS.replace(old, new))).layers[-1].rule
    assert message in str(raised.value)
