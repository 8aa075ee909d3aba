"""Truths follow the pixels; the oracles: painted pixels, colorsys, Darknet's library."""

import colorsys
import ctypes
import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from darknet_library import ALEXEY_LIB, CImage, with_library
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_data import painted

from yolo.cfg import Cfg
from yolo.datasets.augment.classifier import classifier_sample, view_matrix
from yolo.datasets.augment.color import Color, draw_scale
from yolo.datasets.augment.crop import Margins
from yolo.datasets.augment.detector import detector_sample
from yolo.datasets.augment.settings import (
    CUTMIX,
    CUTMIX_OR_MOSAIC,
    MIXUP,
    MOSAIC,
    NONE,
    Augmentation,
)
from yolo.datasets.sample import NO_BOXES, Sample, one_hot
from yolo.datasets.sizes import Sizes
from yolo.datasets.task import Task
from yolo.errors import CfgError
from yolo.training.loader import views_of

WIDTH, HEIGHT = 96, 64


def corners(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    size = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    low, high = boxes[:, 1:3] - boxes[:, 3:] / 2, boxes[:, 1:3] + boxes[:, 3:] / 2
    return np.concatenate((low, high), 1) * size


PLAIN = Augmentation(flip=False, jitter=0)
GEOMETRY = {
    "nothing": PLAIN,
    "flip": dataclasses.replace(PLAIN, flip=True),
    "jitter": dataclasses.replace(PLAIN, jitter=0.3),
    "resize": dataclasses.replace(PLAIN, resize=1.5),
    "smaller only": dataclasses.replace(PLAIN, resize=0.6),
    "letter_box": dataclasses.replace(PLAIN, letter_box=True),
    "color": dataclasses.replace(PLAIN, hue=0.2, saturation=1.5, exposure=1.3),
    "all": Augmentation(jitter=0.3, resize=1.5, letter_box=True, hue=0.1, exposure=1.3),
}
MIXED = {
    f"{name} with {mixing}": dataclasses.replace(GEOMETRY[name], letter_box=False, **changes)
    for name in ("nothing", "flip", "jitter", "all")
    for mixing, changes in {
        "mixup": {"mixing": MIXUP},
        "mosaic": {"mixing": MOSAIC},
        "bounded mosaic": {"mixing": MOSAIC, "mosaic_bound": True},
    }.items()
}


def augmented(how: Augmentation, seed: int) -> Sample:
    random = np.random.default_rng(seed)
    own = painted(random)
    sample = detector_sample(own, lambda: painted(random), how, WIDTH, HEIGHT, random)
    assert sample.image.shape == (HEIGHT, WIDTH, 3)
    assert sample.image.dtype == np.uint8
    return sample


def bright(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Painted pixels, even where mixup halves them; the mean colour of padding is darker"""
    return image[:, :, 0] > 64


@pytest.mark.parametrize("how", (GEOMETRY | MIXED).values(), ids=GEOMETRY | MIXED)
def test_every_painted_pixel_is_in_a_box(how: Augmentation) -> None:
    for seed in range(60):
        sample = augmented(how, seed)
        # slivers thinner than a pixel have no box
        mask = cv2.erode(bright(sample.image).astype(np.uint8), np.ones((3, 3)))
        for left, top, right, bottom in corners(sample.boxes):
            rows = slice(max(0, int(top - 1)), int(np.ceil(bottom + 1)))
            mask[rows, max(0, int(left - 1)) : int(np.ceil(right + 1))] = 0
        assert not mask.any(), seed


@pytest.mark.parametrize("how", GEOMETRY.values(), ids=GEOMETRY)
def test_the_box_is_as_tight_as_the_pixels(how: Augmentation) -> None:
    count = 0
    for seed in range(60):
        sample = augmented(how, seed)
        rows, columns = np.nonzero(bright(sample.image))
        for box in corners(sample.boxes):
            pixels = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box == pytest.approx(np.array(pixels), abs=1.6)
            assert sample.boxes[0, 0] == 1
            count += 1
    assert count > 50


@pytest.mark.parametrize("bound", [True, False])
def test_boxes_of_a_mosaic_show(bound: bool) -> None:
    how = dataclasses.replace(PLAIN, jitter=0.2, flip=True, mixing=MOSAIC, mosaic_bound=bound)
    most = 0
    for seed in range(60):
        sample = augmented(how, seed)
        most = max(most, len(sample.boxes))
        assert sample.boxes[:, 1:].min(initial=1) > 0
        for left, top, right, bottom in corners(sample.boxes).round().astype(int):
            inside = bright(sample.image)[top:bottom, left:right]
            assert inside.size == 0 or inside.any() or min(right - left, bottom - top) < 3
            if bound and min(right - left, bottom - top) > 5:
                assert inside.mean() > 0.7
    assert most >= 3


def test_half_of_the_images_are_mixed() -> None:
    how = dataclasses.replace(PLAIN, mixing=MIXUP)
    blended = [len(augmented(how, seed).boxes) == 2 for seed in range(200)]
    assert 60 < sum(blended) < 140


def test_padding_has_the_mean_colour() -> None:
    image = np.full((40, 40, 3), (10, 200, 90), np.uint8)
    crop = Margins(40, 40, -20, -20, 0, 0)
    assert (crop.pixels(image, 40, 40) == image).all()
    assert crop.boxes(np.array([[0, 0.5, 0.5, 1, 1]], np.float32), 40, 40).tolist() == [
        [0, 0.5, 0.5, 0.5, 1]
    ]


@with_library
@given(
    margins=st.tuples(*[st.integers(-60, 40)] * 4),
    flip=st.booleans(),
    boxes=st.lists(st.tuples(*[st.integers(1, 99)] * 4), min_size=1, max_size=6),
)
@settings(max_examples=50)
def test_truths_of_the_library(
    tmp_path_factory: pytest.TempPathFactory,
    margins: tuple[int, int, int, int],
    flip: bool,
    boxes: list[tuple[int, int, int, int]],
) -> None:
    """fill_truth_detection of data.c"""
    rows = []
    for left, right, top, bottom in boxes:
        (left, right), (top, bottom) = sorted((left, right)), sorted((top, bottom))
        middle = ((left + right) / 200, (top + bottom) / 200)
        rows.append([0, *middle, (right - left) / 100, (bottom - top) / 100])
    path = tmp_path_factory.getbasetemp() / "truth.jpg"
    path.with_suffix(".txt").write_text("\n".join(" ".join(map(str, row)) for row in rows) + "\n")
    crop = Margins(150, 100, margins[0], margins[1], margins[2], margins[3], flip)
    sx, sy = crop.size[0] / 150, crop.size[1] / 100
    truth = np.zeros((20, 6), np.float32)
    ctypes.CDLL(ALEXEY_LIB).fill_truth_detection(
        str(path).encode(),
        20,
        6,
        truth.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
        1,
        int(flip),
        *(ctypes.c_float(v) for v in (crop.left / 150 / sx, crop.top / 100 / sy, 1 / sx, 1 / sy)),
        WIDTH,
        HEIGHT,
    )
    expected = truth[truth[:, 0] > 0, :4]
    moved = crop.boxes(np.array(rows, np.float32), WIDTH, HEIGHT)[:, 1:]
    limit = np.array([1 / WIDTH, 1 / HEIGHT])
    sure = [b[(np.abs(b[:, 2:] - limit) > 1e-5).all(1)] for b in (expected, moved)]
    theirs, ours = (b[np.lexsort(b.round(4).T)] for b in sure)
    assert theirs == pytest.approx(ours, abs=2e-5)


levels = st.integers(0, 255)


@given(
    pixel=st.tuples(levels, levels, levels),
    hue=st.floats(-0.5, 0.5),
    saturation=st.floats(0.3, 3),
    exposure=st.floats(0.3, 3),
)
def test_color_is_that_of_hsv(
    pixel: tuple[int, int, int], hue: float, saturation: float, exposure: float
) -> None:
    image = np.full((1, 1, 3), pixel, np.uint8)
    out = Color(hue, saturation, exposure).distorted(image)[0, 0]
    h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in pixel))
    expected = colorsys.hsv_to_rgb((h + hue) % 1, min(1, s * saturation), min(1, v * exposure))
    # 8 bits hold a hue of 2°, and saturation is coarse where it is dark
    assert out == pytest.approx(np.array(expected) * 255, abs=10 + 3 * exposure)


def test_grey_images_have_exposure_only() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    out = Color(0.3, 2.0, 1.5).distorted(image)
    assert np.array_equal(out, np.rint(np.minimum(255, image * 1.5)).astype(np.uint8))


def test_blur_and_noise() -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (64, 64, 3), np.uint8)
    box = np.array([[0, 0.5, 0.5, 0.5, 0.5]], np.float32)
    sharp = Color(0, 1, 1, blur=17, sharp_objects=True).applied(image, box, random)
    assert np.array_equal(sharp[16:48, 16:48], image[16:48, 16:48])
    assert sharp[:16].std() < image[:16].std() / 3
    assert np.array_equal(Color(0, 1, 1, blur=5).applied(image, box / 4, random), image)
    flat = np.full((64, 64, 3), 100, np.uint8)
    noisy = Color(0, 1, 1, noise=10).applied(flat, NO_BOXES, random)
    assert noisy.std() == pytest.approx(10, rel=0.1)
    assert noisy.mean() == pytest.approx(100, abs=1)


def test_scales_are_between_the_largest_and_its_inverse() -> None:
    random = np.random.default_rng(0)
    scales = [draw_scale(1.5, random) for _ in range(500)]
    assert 1 / 1.5 <= min(scales) < 0.7
    assert 1.45 < max(scales) <= 1.5
    assert 200 < sum(scale > 1 for scale in scales) < 300


@with_library
def test_views_of_the_library() -> None:
    """rotate_crop_image of image.c"""
    noise = np.random.default_rng(0).integers(0, 256, (80, 120, 1), np.uint8)
    image = cv2.GaussianBlur(noise, (15, 15), 0)
    numbers = (0.2, 1.3, 1.2, 4.0, -3.0)  # angle, scale, aspect, x, y
    matrix = view_matrix(120, 80, 50, *numbers)
    out = cv2.warpAffine(image, matrix, (50, 50), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    call = ctypes.CDLL(ALEXEY_LIB).rotate_crop_image
    call.restype = CImage
    plane = image.astype(np.float32)
    data = plane.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    angle, scale, aspect, x, y = (ctypes.c_float(number) for number in numbers)
    crop = call(CImage(120, 80, 1, data), angle, scale, 50, 50, x, y, aspect)
    expected = np.ctypeslib.as_array(crop.data, (50, 50))
    assert np.abs(out - expected).max() < 2


VALUES = np.array([40, 100, 160, 220])


@pytest.mark.parametrize("mixing", [NONE, MIXUP, CUTMIX, MOSAIC, CUTMIX_OR_MOSAIC])
@pytest.mark.parametrize("size", [(48, 48), (64, 32)])
def test_labels_are_mixed_as_the_pixels(mixing: int, size: tuple[int, int]) -> None:
    how = Augmentation(mixing=mixing, min_crop=64, max_crop=128, aspect=1.2)
    weights = set()
    for seed in range(30):
        numbers = iter(range(4))

        def solid(numbers: Iterator[int] = numbers) -> Sample:
            number = next(numbers)
            image = np.full((70, 90, 1), VALUES[number], np.uint8)
            return Sample(image, NO_BOXES, one_hot(number, 4), "", (90, 70))

        random = np.random.default_rng(seed)
        sample = classifier_sample(solid(), solid, how, *size, random)
        assert sample.image.shape == (size[1], size[0], 1)
        assert sample.image.mean() == pytest.approx(sample.labels @ VALUES, abs=1)
        assert sample.labels.sum() == pytest.approx(1)
        weights.add(tuple(sample.labels.round(6)))
    assert (len(weights) == 1) == (mixing == NONE)


def test_label_smoothing() -> None:
    assert one_hot(1, 5, 0.2) == pytest.approx(np.array([0.05, 0.8, 0.05, 0.05, 0.05]))
    assert one_hot(0, 1, 0.0).tolist() == [1]


def cfg(net: str = "", head: str = "", section: str = "yolo") -> Cfg:
    text = f"[net]\nwidth=416\nheight=256\nchannels=3\n{net}\n[{section}]\n{head}\n"
    return Cfg(text.encode(), "x.cfg")


DETECTOR, CLASSIFIER = Task(True, 1, 3, 256, 416), Task(False, 2, 3, 256, 416)


def settings_of(cfg: Cfg, task: Task) -> Augmentation:
    return Augmentation.of(cfg.net, task, views_of(cfg))


def steps_of(cfg: Cfg) -> Sizes:
    return Sizes.of(cfg.net, DETECTOR, views_of(cfg).random)


def test_settings_and_their_defaults() -> None:
    options = settings_of(cfg(), DETECTOR)
    assert options == Augmentation(min_crop=416, max_crop=832)
    text = "hue=.1\nsaturation=0\nexposure=1.5\nflip=0\nletter_box=1\nmosaic_bound=1\nblur=3"
    options = settings_of(cfg(text, "jitter=.3\nresize=1.5"), DETECTOR)
    assert (options.hue, options.saturation, options.exposure, options.flip) == (0.1, 1, 1.5, False)
    assert (options.letter_box, options.mosaic_bound, options.blur) == (True, True, 3)
    assert (options.jitter, options.resize) == (0.3, 1.5)


@pytest.mark.parametrize(
    ("text", "detector", "classifier"),
    [
        ("", NONE, NONE),
        ("mixup=1", MIXUP, MIXUP),
        ("cutmix=1", NONE, CUTMIX),
        ("mosaic=1", MOSAIC, MOSAIC),
        ("mosaic=1\ncutmix=1", MOSAIC, CUTMIX_OR_MOSAIC),
        ("mixup=1\nmosaic=1", MOSAIC, MOSAIC),
    ],
)
def test_mixing(text: str, detector: int, classifier: int) -> None:
    assert settings_of(cfg(text), DETECTOR).mixing == detector
    assert settings_of(cfg(text, section="softmax"), CLASSIFIER).mixing == classifier


@pytest.mark.parametrize(
    ("net", "head", "message"),
    [
        (
            "mosaic=1\nletter_box=1",
            "",
            r"x.cfg:6: \[net\] mosaic=1 can't be combined",
        ),
        ("exposure=-1", "", "exposure=-1 is negative"),
        ("", "jitter=-.1", r"x.cfg:7: \[yolo\] jitter=-0.1"),
        ("", "resize=0", "resize=0 is not positive"),
        ("mixup=5", "", "expected at most 4"),
    ],
)
def test_settings_that_cannot_be(net: str, head: str, message: str) -> None:
    with pytest.raises(CfgError, match=message):
        settings_of(cfg(net, head), DETECTOR)


def sizes_of(how: Sizes) -> list[tuple[int, int]]:
    return [how.at(7, step) for step in range(0, 2000, 10)]


@pytest.mark.parametrize(
    ("random", "low", "high"), [("1", (320, 224), (608, 384)), ("2", (256, 160), (864, 544))]
)
def test_sizes_of_multi_scale(random: str, low: tuple[int, int], high: tuple[int, int]) -> None:
    """train_detector of detector.c: round(scale·416/32 + 1)·32, from 416/1.4 to 416·1.4"""
    how = steps_of(cfg("", f"random={random}"))
    sizes = sizes_of(how)
    assert sizes[0] == high
    assert (min(sizes)[0], min(h for _, h in sizes)) == low
    assert (max(sizes)[0], max(h for _, h in sizes)) == high
    assert all(width % 32 == height % 32 == 0 for width, height in sizes)
    assert {how.at(7, step) for step in range(50, 60)} == {how.at(7, 50)}
    assert sizes != sizes_of(dataclasses.replace(how, width=384))


def test_one_size_without_random() -> None:
    assert set(sizes_of(steps_of(cfg()))) == {(416, 256)}
    how = steps_of(cfg("resize_step=64", "random=1"))
    assert all(size == (416, 256) or size[0] % 64 == size[1] % 64 == 0 for size in sizes_of(how))
    with pytest.raises(CfgError, match="random=-1 is negative"):
        steps_of(cfg("", "random=-1"))
