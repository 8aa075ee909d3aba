"""Gradients of the heads' losses against loops written from Darknet's C, and their properties."""

import numpy as np
import pytest
import torch
from cfgs import plain
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import build, random_input
from training_cases import (
    ANCHOR_CASES,
    BATCH,
    CLASSIFIERS,
    NET,
    POOLED,
    REGION_CASES,
    YOLO,
    gaussian,
    region,
    scene,
    yolo,
)
from training_reference import Options, anchor_delta, region_delta, slopes

from yolo.errors import CfgError
from yolo.heads.common.assign import rounds
from yolo.heads.common.box_delta import iou_delta
from yolo.heads.common.loss import GroundTruth
from yolo.heads.region.loss import WARM_UP
from yolo.heads.trained import trained_heads

LATER = WARM_UP  # images seen: no warm-up of [region]


def gradient(head, x, targets, seen=LATER):
    x = x.clone().requires_grad_()
    head.loss(x, targets, seen).total.backward()
    return x.grad


def by_hand(head, x, targets, seen=LATER):
    """Darknet's delta of every image, by loops."""
    _, _, height, width = x.shape
    entries = x.unflatten(1, (len(head.anchors), -1))
    if head.section.name == "region":
        box, objectness, classes = entries.double().split((4, 1, head.classes), 2)
        classes = classes.softmax(2) if head.softmax else classes
        out = torch.cat((box, objectness.sigmoid(), classes), 2).numpy()
    else:
        out = head.activate(entries.double()).numpy()
        cell = head.image.width / head.out_shape.width
        options = Options(head.section, cell * width, cell * height)
    deltas = []
    for image in range(len(x)):
        truths = targets.boxes[targets.boxes[:, 0] == image, 1:].double().numpy()
        if head.section.name == "region":
            deltas.append(region_delta(head.section, out[image], truths, seen))
        else:
            deltas.append(anchor_delta(options, out[image], truths))
    return np.stack(deltas).reshape(x.shape)


def check(head, x, targets, seen=LATER):
    expected = by_hand(head, x, targets, seen)
    # numbers of Gaussian_yolo reach 1e5 and mostly cancel out
    rough = 1e-3 if head.section.name == "Gaussian_yolo" else 5e-5
    ours = -gradient(head, x, targets, seen).numpy()
    np.testing.assert_allclose(ours, expected, rtol=rough, atol=rough)


@pytest.mark.parametrize("text", ANCHOR_CASES + REGION_CASES)
def test_gradients(text):
    sample = scene(text, seed=2)
    assert len(sample.targets.boxes) > 20
    check(sample.head, sample.x, sample.targets, seen=WARM_UP - 1)


@pytest.mark.parametrize(
    "text",
    [
        yolo("iou_thresh=.1", "ignore_thresh=.9"),
        yolo("iou_thresh=.1", "truth_thresh=.4", "objectness_smooth=1"),
        gaussian("iou_thresh=.1"),
    ],
)
def test_saturated_predictions(text):
    """Deltas of exactly 0, which Darknet's C takes for deltas that nothing has set."""
    sample = scene(text, seed=3)
    entries = sample.x.unflatten(1, (2, -1))
    logits = entries[:, :, sample.head.coordinates :]
    drawn = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0))
    logits[drawn < 0.4] = -1000
    logits[drawn > 0.6] = 1000
    check(sample.head, sample.x, sample.targets)


kinds = st.sampled_from(("mse", "iou", "giou", "diou", "ciou"))
shares = st.sampled_from((0.1, 0.3, 0.6, 1.0))


@settings(max_examples=25)
@given(st.integers(0, 10**6), kinds, shares, shares, shares, st.booleans(), st.booleans())
def test_gradients_of_any_options(seed, kind, ignore, sure, fit, smooth, new_coords):
    options = f"iou_loss={kind}\nignore_thresh={ignore}\ntruth_thresh={sure}\niou_thresh={fit}\n"
    options += f"objectness_smooth={smooth:d}\nnew_coords={new_coords:d}\nscale_x_y=1.1\n"
    sample = scene(yolo(options), seed)
    check(sample.head, sample.x, sample.targets)


@pytest.mark.parametrize("text", [yolo("iou_thresh=.2"), gaussian(), region("bias_match=1")])
def test_maps_of_another_size_and_shape(text):
    head = build(NET + text).layers[-1]
    x = torch.randn(
        BATCH, head.out_shape.channels, 9, 5, generator=torch.Generator().manual_seed(1)
    )
    check(head, x, scene(text).targets)


@pytest.mark.parametrize("text", [yolo(), gaussian(), region("softmax=1")])
def test_without_truths_only_objectness_learns(text):
    head = build(NET + text).layers[-1]
    x = torch.randn(BATCH, head.out_shape.channels, 6, 8)
    nothing = GroundTruth(torch.zeros(0, 6), torch.zeros(BATCH, 0))
    result = head.loss(x.requires_grad_(), nothing, LATER)
    result.total.backward()
    entries = x.grad.unflatten(1, (len(head.anchors), -1)).clone()
    objectness = entries.shape[2] - head.classes - 1
    assert (entries[:, :, objectness] > 0).all()
    entries[:, :, objectness] = 0
    assert not entries.any()
    parts = result.parts
    assert parts["box"] == parts["class"] == parts["count"] == parts["iou"] == 0
    assert result.total.item() == pytest.approx(parts["objectness"])


@pytest.mark.parametrize("text", [yolo("iou_thresh=.2"), gaussian(), region()])
def test_the_images_of_a_batch_dont_matter_to_each_other(text):
    sample = scene(text)
    together = gradient(sample.head, sample.x, sample.targets)
    order = torch.randperm(len(sample.targets.boxes), generator=torch.Generator().manual_seed(0))
    for image in range(BATCH):
        boxes = sample.targets.boxes[sample.targets.boxes[:, 0] == image].clone()
        boxes[:, 0] = 0
        truth = GroundTruth(boxes, torch.zeros(1, 0))
        alone = gradient(sample.head, sample.x[image : image + 1], truth)
        torch.testing.assert_close(together[image : image + 1], alone)
    # nor where in the list of boxes theirs stand, as long as the order of each image's stays
    order = sample.targets.boxes[:, 0].sort(descending=True, stable=True).indices
    moved = GroundTruth(sample.targets.boxes[order], sample.targets.labels)
    torch.testing.assert_close(gradient(sample.head, sample.x, moved), together)


def test_truths_that_share_a_cell():
    """The coordinates go to their mean, every class stays, a class twice counts once."""
    head = build(NET + yolo("iou_thresh=.99", "ignore_thresh=1")).layers[-1]
    x = torch.zeros(1, 16, 6, 8)
    boxes = torch.tensor([[0, 0, 0.3, 0.3, 0.25, 0.5], [0, 2, 0.32, 0.3, 0.25, 0.5]])
    apart = [-gradient(head, x, GroundTruth(b[None], torch.zeros(1, 0))) for b in boxes]
    both = -gradient(head, x, GroundTruth(boxes, torch.zeros(1, 0)))
    cell = (0, slice(0, 8), 1, 2)
    torch.testing.assert_close(both[cell][:4], (apart[0] + apart[1])[cell][:4] / 2)
    assert both[cell][4:].tolist() == [0.5, 0.5, -0.5, 0.5]
    sure = x.clone()
    sure[0, 4] = 1000  # an objectness without a delta, for which the C averages nothing
    summed = -gradient(head, sure, GroundTruth(boxes, torch.zeros(1, 0)))
    torch.testing.assert_close(summed[cell][:4], 2 * both[cell][:4])
    twice = -gradient(head, x, GroundTruth(boxes[[0, 0]], torch.zeros(1, 0)))
    torch.testing.assert_close(twice[cell][:4], 2 * apart[0][cell][:4])
    assert twice[cell][4:].tolist() == [0.5, 0.5, -0.5, -0.5]


def test_in_region_the_last_truth_of_a_cell_counts():
    head = build(NET + region()).layers[-1]
    x = torch.randn(1, 24, 6, 8, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0, 0, 0.3, 0.3, 0.2, 0.3], [0, 2, 0.32, 0.3, 0.2, 0.3]])
    both = gradient(head, x, GroundTruth(boxes, torch.zeros(1, 0)))
    last = gradient(head, x, GroundTruth(boxes[1:], torch.zeros(1, 0)))
    entries = both.unflatten(1, (3, 8))[0, :, [0, 1, 2, 3, 5, 6, 7]]
    assert entries.any()
    torch.testing.assert_close(entries, last.unflatten(1, (3, 8))[0, :, [0, 1, 2, 3, 5, 6, 7]])


def test_a_truth_on_the_far_edge_belongs_to_the_last_cell():
    head = build(NET + yolo()).layers[-1]
    for edge in (1.0, 0.9999):
        boxes = torch.tensor([[0, 1, edge, edge, 0.25, 0.5]])
        x = torch.zeros(1, 16, 6, 8)
        delta = -gradient(head, x, GroundTruth(boxes, torch.zeros(1, 0))).unflatten(1, (2, 8))
        assert delta[0, :, 6].nonzero()[:, 1:].tolist() == [[5, 7]]


@pytest.mark.parametrize("seen", [WARM_UP - 1, WARM_UP])
def test_region_teaches_its_anchors_first(seen):
    head = build(NET + region()).layers[-1]
    x = torch.ones(1, 24, 6, 8)
    none = GroundTruth(torch.zeros(0, 6), torch.zeros(1, 0))
    assert gradient(head, x, none, seen)[:, :4].any() == (seen < WARM_UP)


def test_pieces_of_the_overlaps_make_no_difference(monkeypatch):
    sample = scene(yolo("iou_thresh=.2"))
    whole = gradient(sample.head, sample.x, sample.targets)
    monkeypatch.setattr("yolo.heads.common.assign.PIECE", 100)
    assert torch.equal(gradient(sample.head, sample.x, sample.targets), whole)


def test_delta_normalizer_scales_the_gradient_but_not_the_cost():
    plain, scaled = scene(yolo()), scene(yolo("delta_normalizer=.25"))
    expected = gradient(plain.head, plain.x, plain.targets) / 4
    assert torch.equal(gradient(scaled.head, scaled.x, scaled.targets), expected)
    costs = [s.head.loss(s.x, s.targets, LATER).total for s in (plain, scaled)]
    assert costs[0] == costs[1]


@pytest.mark.parametrize("text", [yolo(), gaussian(), region(), CLASSIFIERS[0]])
def test_half_precision_is_computed_in_float32(text):
    sample = scene(text)
    x = sample.x.half()
    expected = gradient(sample.head, x.float(), sample.targets)
    ours = gradient(sample.head, x, sample.targets)
    assert ours.dtype == torch.float16
    torch.testing.assert_close(ours.float(), expected, rtol=1e-3, atol=1e-6)


def descended(head, boxes):
    """What enters the head after 200 steps down, the last loss and the first one."""
    targets = GroundTruth(boxes, torch.zeros(1, 0))
    x = torch.zeros(1, head.out_shape.channels, 6, 8, requires_grad=True)
    optimizer = torch.optim.Adam([x], 0.2)
    first = head.loss(x, targets, LATER)
    for _ in range(200):
        optimizer.zero_grad()
        last = head.loss(x, targets, LATER)
        last.total.backward()
        optimizer.step()
    return x.detach(), last, first


TWO = torch.tensor([[0, 1, 0.3, 0.4, 0.3, 0.5], [0, 2, 0.8, 0.7, 0.6, 0.8]])


@pytest.mark.parametrize("text", [yolo("iou_loss=ciou"), yolo(), region("softmax=1")])
def test_descending_finds_the_truths(text):
    head = build(NET + text).layers[-1]
    x, last, first = descended(head, TWO)
    boxes = head.decode(head(x))[0]
    top = boxes[boxes[:, 4].topk(2).indices]
    top = top[top[:, 0].argsort()]
    torch.testing.assert_close(top[:, :4], TWO[:, 2:], rtol=0, atol=0.05)
    assert top[:, 5:].argmax(1).tolist() == [1, 2]
    assert last.total < 0.2 * first.total
    assert last.parts["iou"] > 0.95


def test_descending_finds_certain_boxes():
    head = build(NET + gaussian()).layers[-1]
    x, last, first = descended(head, TWO)
    assert first.parts["iou"] < 0.9
    assert last.parts["iou"] > 0.95
    assert first.parts["count"] == 1  # no anchor of this head is like the other truth
    sigma = head.activate(head.per_anchor(x))[0, 0, 1:8:2, 4, 6]
    assert sigma.mean() < 0.2  # at first a half


def test_a_step_changes_weights_by_delta_times_input():
    """lr / batch · Σ delta · input, in sign and size, for a 1×1 convolution before a head."""
    text = plain(16) + YOLO + "iou_loss=giou\niou_normalizer=.07\n"
    network = build(NET + text)
    images = random_input(network, BATCH)
    convolution = network.layers[0].conv
    before = convolution.weight.detach().clone()
    optimizer = torch.optim.SGD([convolution.weight.requires_grad_()], lr=0.01)
    x = network(images, [0])[0]
    targets = scene(yolo()).targets
    (network.layers[1].loss(x, targets, LATER).total / BATCH).backward()
    optimizer.step()
    delta = by_hand(network.layers[1], x.detach(), targets)
    expected = 0.01 / BATCH * np.einsum("nohw,nihw->oi", delta, images.numpy())
    assert np.abs(expected).max() > 1e-3
    step = (convolution.weight.detach() - before)[:, :, 0, 0]
    np.testing.assert_allclose(step.numpy(), expected, rtol=1e-3, atol=1e-5)


# in steps that floats hold exactly: edges meet, or don't, in any precision
centres = st.integers(0, 64).map(lambda n: n / 64)
sides = st.integers(2, 56).map(lambda n: n / 64)
boxes_ = st.tuples(centres, centres, sides, sides)


@given(boxes_, boxes_, st.sampled_from(("iou", "giou", "diou", "ciou")))
def test_iou_delta(predicted, truth, kind):
    ours = iou_delta(torch.tensor([predicted]), torch.tensor([truth]), kind)[0]
    np.testing.assert_allclose(ours, slopes(predicted, truth, kind), rtol=2e-3, atol=2e-3)


def test_iou_delta_of_an_empty_box_is_finite():
    empty = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    for kind in ("iou", "giou", "diou", "ciou"):
        assert iou_delta(empty, torch.tensor([[0.4, 0.5, 0.2, 0.3]]), kind).isfinite().all()


def test_a_box_thinner_than_floats_is_only_moved():
    thin, truth = torch.tensor([[0.5, 0.5, 1e-9, 0.2]]), torch.tensor([[0.6, 0.5, 0.5, 0.3]])
    delta = iou_delta(thin, truth, "iou")[0]
    assert delta[0] > 0
    assert delta[2] == 0


@given(st.lists(st.integers(0, 4), max_size=12))
def test_rounds(cells):
    parts = [part.tolist() for part in rounds(torch.tensor(cells, dtype=torch.long))]
    assert sorted(index for part in parts for index in part) == list(range(len(cells)))
    for k, part in enumerate(parts):
        assert all(cells[:index].count(cells[index]) == k for index in part)


def labels(classes=6):
    drawn = torch.arange(BATCH) % classes
    wanted = torch.nn.functional.one_hot(drawn, classes).float()
    return drawn, GroundTruth(torch.zeros(0, 6), wanted)


@pytest.mark.parametrize(
    ("tail", "factor"),
    [
        ("[softmax]\n", 1),
        ("[softmax]\n[cost]\n", 2),
        ("[softmax]\nnoloss=1\n[cost]\nscale=.5\n", 0.5),
    ],
)
def test_softmax_is_cross_entropy(tail, factor):
    network = build(NET + POOLED + tail)
    drawn, targets = labels()
    x = torch.randn(BATCH, 6, 1, 1, requires_grad=True)
    (rule,) = trained_heads(network.layers).values()
    result = rule.loss(x, targets, LATER)
    result.total.backward()
    again = x.detach().flatten(1).requires_grad_()
    entropy = torch.nn.functional.cross_entropy(again, drawn, reduction="sum")
    entropy.backward()
    torch.testing.assert_close(x.grad.flatten(1), factor * again.grad)
    if factor == 1:
        assert result.total.item() == pytest.approx(entropy.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "cost"),
    [
        ("sse", lambda d: (d**2).sum()),
        ("smooth", lambda d: 2 * torch.nn.functional.huber_loss(d, 0 * d, reduction="sum")),
    ],
)
def test_cost(kind, cost):
    network = build(NET + POOLED + f"[cost]\nscale=.25\ntype={kind}\n")
    _, targets = labels()
    x = (3 * torch.randn(BATCH, 6, 1, 1)).requires_grad_()
    (rule,) = trained_heads(network.layers).values()
    result = rule.loss(x, targets, LATER)
    result.total.backward()
    again = x.detach().flatten(1).requires_grad_()
    expected = cost(again - targets.labels)
    expected.backward()
    assert result.total.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(x.grad.flatten(1), 0.25 * again.grad / 2)


def test_masked_cost_learns_nothing_of_unknown_labels():
    network = build(NET + POOLED + "[cost]\ntype=masked\n")
    _, targets = labels()
    targets.labels[0, 2] = -1234
    x = torch.randn(BATCH, 6, 1, 1, requires_grad=True)
    (rule,) = trained_heads(network.layers).values()
    rule.loss(x, targets, LATER).total.backward()
    assert (x.grad.flatten(1) == 0).nonzero().tolist() == [[0, 2]]


def test_trained_heads():
    two = yolo() + "[route]\nlayers=0\n" + yolo()
    assert list(trained_heads(build(NET + two).layers)) == [1, 4]
    assert list(trained_heads(build(NET + CLASSIFIERS[2]).layers)) == [2]
    assert list(trained_heads(build(NET + CLASSIFIERS[5]).layers)) == [2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (plain(5, 3, stride=4), "x.cfg:11: [convolutional] is last, and neither head nor [cost]"),
        (POOLED + "[softmax]\nnoloss=1\n", "x.cfg:19: [softmax] noloss=1"),
        (yolo("iou_loss=eiou"), "iou_loss=eiou: expected one of mse, iou, giou, diou, ciou"),
        (yolo("iou_thresh_kind=mse"), "iou_thresh_kind=mse: expected one of iou"),
        (yolo("map=x.map"), "[yolo] map="),
        (region("map=x.map"), "[region] map="),
        (region("classfix=3"), "classfix=3: expected at most 2"),
        (yolo("counters_per_class=1,2"), "counters_per_class has 2 values for 3 classes"),
        (yolo() + "[cost]\n", "[cost] after [yolo]"),
        (POOLED + "[cost]\ntype=hinge\n", "type=hinge: expected one of sse, masked, smooth"),
        (POOLED + "[cost]\nratio=.3\n", "[cost] ratio="),
        (
            "[connected]\noutput=54\nactivation=linear\n[detection]\ncoords=4\nside=3\nclasses=1\n",
            "[detection] can't be trained here",
        ),
    ],
)
def test_what_cant_be_trained_says_why(text, message):
    network = build(NET + text)
    with pytest.raises(CfgError) as error:
        trained_heads(network.layers)
    assert message in str(error.value)


@pytest.mark.parametrize("text", [POOLED + "[softmax]\n", POOLED + "[cost]\n"])
def test_labels_of_another_number_of_classes(text):
    network = build(NET + text)
    _, targets = labels(10)
    (rule,) = trained_heads(network.layers).values()
    with pytest.raises(CfgError, match=r"gets 6 numbers .* 10 classes"):
        rule.loss(torch.zeros(BATCH, 6, 1, 1), targets, LATER)


def test_a_label_that_softmax_takes_for_impossible_is_a_finite_loss():
    """A probability that floats round to 0: torch's cross-entropy of these logits is 200."""
    head = build(NET + POOLED + "[softmax]\n").layers[-1]
    x = torch.zeros(1, 6, 1, 1)
    x[0, 0] = 200
    result = head.loss(x.requires_grad_(), GroundTruth(torch.zeros(0, 6), torch.eye(6)[1:2]), LATER)
    assert 87 < result.total.item() < 200
    result.total.backward()
    torch.testing.assert_close(x.grad.flatten(), torch.tensor([1.0, -1, 0, 0, 0, 0]))
