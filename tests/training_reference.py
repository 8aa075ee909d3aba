"""Darknet's deltas by loops over cells and truths, written from its C: box.c, *yolo_layer.c,
region_layer.c. What the tests compare our losses with.
"""

import math

import numpy as np


def edges(box):
    x, y, w, h = box
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def overlap(a, b, kind="iou"):
    """box_iou, box_giou, box_diou and box_ciou; but DIoU as in its paper, without a power."""
    (al, at, ar, ab), (bl, bt, br, bb) = edges(a), edges(b)
    w, h = min(ar, br) - max(al, bl), min(ab, bb) - max(at, bt)
    intersection = 0 if w < 0 or h < 0 else w * h
    union = a[2] * a[3] + b[2] * b[3] - intersection
    iou = intersection / union if intersection and union else 0.0
    width, height = max(ar, br) - min(al, bl), max(ab, bb) - min(at, bt)
    if kind == "iou" or (width == 0 and height == 0):
        return iou
    if kind == "giou":
        area = width * height
        return iou - (area - union) / area if area else iou
    apart = ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / (width**2 + height**2)
    if kind == "diou":
        return iou - apart
    v = 4 / math.pi**2 * (math.atan2(b[2], b[3]) - math.atan2(a[2], a[3])) ** 2
    return iou - apart - v * v / (1 - iou + v + 1e-6)


def slopes(pred, truth, kind):
    """dx_box_iou: what to add to x, y, w and h."""
    (pl, pt, pr, pb), (tl, tt, tr, tb) = edges(pred), edges(truth)
    x, x_hat = (pb - pt) * (pr - pl), (tb - tt) * (tr - tl)
    ih, iw = min(pb, tb) - max(pt, tt), min(pr, tr) - max(pl, tl)
    i = iw * ih
    u = x + x_hat - i
    cw, ch = max(pr, tr) - min(pl, tl), max(pb, tb) - min(pt, tt)
    c = cw * ch
    d_i = (-iw * (pt > tt), iw * (pb < tb), -ih * (pl > tl), ih * (pr < tr))
    d_x = (pl - pr, pr - pl, pt - pb, pb - pt)
    d_c = (-cw * (pt < tt), cw * (pb > tb), -ch * (pl < tl), ch * (pr > tr))
    d = [(u * di - i * (dx - di)) / u**2 if u > 0 else 0.0 for di, dx in zip(d_i, d_x, strict=True)]
    if kind == "giou":
        term = [(c * (dx - di) - u * dc) / c**2 for di, dx, dc in zip(d_i, d_x, d_c, strict=True)]
        d = term if iw <= 0 or ih <= 0 else [a + b for a, b in zip(d, term, strict=True)]
    gradient = np.array([d[2] + d[3], d[0] + d[1], d[3] - d[2], d[1] - d[0]])
    if kind in ("iou", "giou"):
        return gradient
    diagonal, s = cw**2 + ch**2, (pred[0] - truth[0]) ** 2 + (pred[1] - truth[1]) ** 2
    dcw_x, dch_y = (pr > tr) * 1 - (pl < tl) * 1, (pb > tb) * 1 - (pt < tt) * 1
    dcw_w, dch_h = ((pr > tr) * 1 + (pl < tl) * 1) / 2, ((pb > tb) * 1 + (pt < tt) * 1) / 2
    term = np.array(
        [
            2 * (truth[0] - pred[0]) * diagonal - 2 * cw * dcw_x * s,
            2 * (truth[1] - pred[1]) * diagonal - 2 * ch * dch_y * s,
            2 * cw * dcw_w * s,
            2 * ch * dch_h * s,
        ]
    )
    term /= diagonal**2
    if kind == "ciou":
        angle = math.atan(truth[2] / truth[3]) - math.atan(pred[2] / pred[3])
        v = 4 / math.pi**2 * angle**2
        alpha = v / (1 - i / u + v + 1e-6)
        term[2:] += alpha * 8 / math.pi**2 * angle * np.array([pred[3], -pred[2]])
    return term if iw <= 0 or ih <= 0 else gradient + term


class Options:
    """A section's keys with parser.c's defaults, and its anchors relative to the image."""

    def __init__(self, section, width, height):
        for key, default in {
            "iou_normalizer": 0.75,
            "obj_normalizer": 1,
            "cls_normalizer": 1,
            "uc_normalizer": 1,
            "ignore_thresh": 0.5,
            "truth_thresh": 1,
            "iou_thresh": 1,
            "label_smooth_eps": 0,
            "max_delta": math.inf,
            "objectness_smooth": 0,
            "focal_loss": 0,
            "new_coords": 0,
        }.items():
            setattr(self, key, section.number(key, float(default)))
        self.iou_loss = section.text("iou_loss", "mse")
        self.kind = section.text("iou_thresh_kind", "iou")
        self.point = {"left_top": 0.5, "right_bottom": -0.5}.get(section.text("yolo_point", "-"), 0)
        self.mask = section.integers("mask")
        self.anchors = np.array(section.numbers("anchors")).reshape(-1, 2) / (width, height)
        self.multipliers = None
        if section.has("counters_per_class"):
            counters = [max(c, 1) for c in section.integers("counters_per_class")]
            self.multipliers = [min(max(counters) / c, self.max_delta) for c in counters]
        self.gaussian = section.name == "Gaussian_yolo"

    def multiplier(self, kind):
        return self.multipliers[kind] if self.multipliers else 1.0


def clipped(values, most):
    return np.clip([v if math.isfinite(v) else 0.0 for v in values], -most, most)


def decoded(o, x, anchor, row, column, height, width):
    """get_yolo_box and get_gaussian_yolo_box"""
    tx, ty, tw, th = x[:8:2] if o.gaussian else x[:4]
    w, h = (4 * tw**2, 4 * th**2) if o.new_coords else (math.exp(tw), math.exp(th))
    w, h = w * o.anchors[anchor][0], h * o.anchors[anchor][1]
    return [(column + tx) / width + o.point * w, (row + ty) / height + o.point * h, w, h]


def add_box(o, x, delta, truth, anchor, kind, row, column, height, width):
    """delta_yolo_box and delta_gaussian_yolo_box, which accumulate"""
    box = decoded(o, x, anchor, row, column, height, width)
    weight = o.iou_normalizer * o.multiplier(kind)
    scale = 2 - truth[2] * truth[3]
    times = np.array(truth[2:]) / o.anchors[anchor]
    wanted = np.array(
        [
            (truth[0] - o.point * truth[2]) * width - column,
            (truth[1] - o.point * truth[3]) * height - row,
            *(np.sqrt(times / 4) if o.new_coords else np.log(times)),
        ]
    )
    at = slice(0, 8, 2) if o.gaussian else slice(0, 4)
    if o.gaussian:
        sigma = x[1:8:2]
        z = (wanted - x[at]) / sigma
        density = np.exp(-(z**2) / 2) / (math.sqrt(2 * math.pi) * (sigma + 0.3))
        likely = 0.5 / (density + 1e-9) * density * scale
        spread = likely * (z**2 / sigma - 1 / (sigma + 0.3)) * o.uc_normalizer
        delta[1:8:2] += clipped(spread, o.max_delta)
    if o.iou_loss != "mse":
        move = slopes(box, truth, o.iou_loss)
        move[:2] -= o.point * move[2:]
        if not o.new_coords:
            move[2:] *= np.exp(x[at][2:])
        delta[at] += clipped(move * weight, o.max_delta)
    elif o.gaussian:
        delta[at] += clipped(likely * z / sigma * weight, o.max_delta)
    else:
        delta[at] += scale * (wanted - x[at]) * weight


def set_class(o, x, delta, kind):
    """delta_yolo_class and delta_gaussian_yolo_class on the classes of a prediction"""
    y = 1 - o.label_smooth_eps / 2
    if delta[0 if o.gaussian else kind]:
        delta[kind] = (y - x[kind]) * o.multiplier(kind)
    elif o.focal_loss:
        p = x[kind] + 1e-15
        slope = -(1 - p) * (2 * p * math.log(p) + p - 1)
        for n in range(len(x)):
            delta[n] = ((n == kind) - x[n]) * slope / 2
    else:
        for n in range(len(x)):
            delta[n] = (y if n == kind else o.label_smooth_eps / 2) - x[n]
        if o.multipliers:
            delta[kind] *= o.multiplier(kind) * o.cls_normalizer


def anchor_delta(o, out, truths):
    """One image's delta of [yolo] or [Gaussian_yolo].

    `out` (anchors, entries, H, W) is what forward gives, truths are rows of class, x, y, w, h.
    """
    delta = np.zeros_like(out)
    _, _, height, width = out.shape
    f = 8 if o.gaussian else 4
    boxes = [(int(kind), list(box)) for kind, *box in truths]
    for slot, row, column in np.ndindex(len(out), height, width):
        x, d = out[slot, :, row, column], delta[slot, :, row, column]
        cell = (row, column, height, width)
        box = decoded(o, x, o.mask[slot], *cell)
        overlaps = [overlap(box, truth) for _, truth in boxes]
        best = max(overlaps, default=0)
        d[f] = o.obj_normalizer * -x[f]
        if not boxes:
            continue
        kind, truth = boxes[overlaps.index(best)]
        if best > o.ignore_thresh and x[f + 1 :].max() > 0.25:
            if not o.objectness_smooth:
                d[f] = 0
            elif o.gaussian:
                d[f] = o.obj_normalizer * (best**2 - x[f])
                set_class(o, x[f + 1 :], d[f + 1 :], kind)
            else:
                d[f] = max(d[f], o.obj_normalizer * (best - x[f]))
        if best > o.truth_thresh:
            smooth = o.objectness_smooth
            d[f] = o.obj_normalizer * ((best**2 if smooth else 1) - x[f])
            set_class(o, x[f + 1 :], d[f + 1 :], kind)
            if smooth:
                d[f + 1 + kind] = o.multiplier(kind) * (best**2 - x[f + 1 + kind])
            add_box(o, x, d, truth, o.mask[slot], kind, *cell)
    for kind, truth in boxes:
        column = min(max(int((truth[0] - o.point * truth[2]) * width), 0), width - 1)
        row = min(max(int((truth[1] - o.point * truth[3]) * height), 0), height - 1)
        shape = [0, 0, *truth[2:]]
        fits = [overlap([0, 0, *anchor], shape) for anchor in o.anchors]
        for anchor in range(len(o.anchors)):
            other = overlap([0, 0, *o.anchors[anchor]], shape, o.kind) > o.iou_thresh
            if anchor not in o.mask or not (
                anchor == fits.index(max(fits)) or (o.iou_thresh < 1 and other)
            ):
                continue
            slot = o.mask.index(anchor)
            x, d = out[slot, :, row, column], delta[slot, :, row, column]
            add_box(o, x, d, truth, anchor, kind, row, column, height, width)
            if d[f] == 0 or o.gaussian or not o.objectness_smooth:
                d[f] = o.multiplier(kind) * o.obj_normalizer * (1 - x[f])
            set_class(o, x[f + 1 :], d[f + 1 :], kind)
    if o.iou_thresh < 1 or o.gaussian:
        count = np.maximum((delta[:, f + 1 :] > 0).sum(1), 1)
        count = count if o.gaussian else np.where(delta[:, f] != 0, count, 1)
        delta[:, :f] /= count[:, None]
    return delta


def region_delta(section, out, truths, seen):
    """One image's delta of [region]: `out` (anchors, entries, H, W) with objectness activated."""
    number = section.number
    anchors = np.array(section.numbers("anchors")).reshape(-1, 2)
    delta = np.zeros_like(out)
    _, _, height, width = out.shape
    boxes = [(int(kind), list(box)) for kind, *box in truths]
    fix = section.integer("classfix", 0, -1)

    def box_at(x, slot, row, column):
        size = np.exp(x[2:4]) * anchors[slot] / (width, height)
        return [(column + sigmoid(x[0])) / width, (row + sigmoid(x[1])) / height, *size]

    def pull(x, d, truth, slot, row, column, scale):
        xy = sigmoid(x[:2])
        d[:2] = np.array(truth[:2]) * (width, height) - (column, row) - xy
        d[:2] *= scale * xy * (1 - xy)
        d[2:4] = scale * (np.log(np.array(truth[2:]) * (width, height) / anchors[slot]) - x[2:4])

    def classes(x, d, kind, scale):
        p = x[5 + kind] + 1e-15
        slope = -(1 - p) * (2 * p * math.log(p) + p - 1) / 2 if section.flag("focal_loss") else 1
        for n in range(5, len(x)):
            d[n] = scale * ((n - 5 == kind) - x[n]) * slope

    for slot, row, column in np.ndindex(len(out), height, width):
        x, d = out[slot, :, row, column], delta[slot, :, row, column]
        overlaps = [overlap(box_at(x, slot, row, column), truth) for _, truth in boxes]
        best, slope = max(overlaps, default=0), x[4] * (1 - x[4])
        d[4] = number("noobject_scale", 1.0) * ((best if fix == -1 else 0) - x[4]) * slope
        if fix != -1 and best > number("thresh", 0.5):
            d[4] = 0
            if fix > 0:
                scale = number("class_scale", 1.0) * (x[4] if fix == 2 else 1)
                classes(x, d, boxes[overlaps.index(best)][0], scale)
        if seen < 12800:
            middle = [(column + 0.5) / width, (row + 0.5) / height]
            pull(x, d, [*middle, *anchors[slot] / (width, height)], slot, row, column, 0.01)
    for kind, truth in boxes:
        column, row = int(truth[0] * width), int(truth[1] * height)
        fits = []
        for slot in range(len(out)):
            size = box_at(out[slot, :, row, column], slot, row, column)[2:]
            if section.flag("bias_match"):
                size = anchors[slot] / (width, height)
            fits.append(overlap([0, 0, *size], [0, 0, *truth[2:]]))
        slot = fits.index(max(fits))
        x, d = out[slot, :, row, column], delta[slot, :, row, column]
        pull(x, d, truth, slot, row, column, number("coord_scale", 1.0))
        iou = overlap(box_at(x, slot, row, column), truth) if section.flag("rescore") else 1
        d[4] = number("object_scale", 1.0) * (iou - x[4]) * x[4] * (1 - x[4])
        classes(x, d, kind, number("class_scale", 1.0))
    return delta


def sigmoid(x):
    return 1 / (1 + np.exp(-x))
