"""SSD's zooming out and patches: what is drawn, and that boxes and pixels go together."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_data import painted

from yolo.boxes import iou
from yolo.cfg import Cfg
from yolo.datasets.augment.crop import Margins, draw_crop
from yolo.datasets.augment.detector import detector_sample
from yolo.datasets.augment.settings import MIXUP, MOSAIC, NONE, Augmentation
from yolo.datasets.augment.ssd_crop import ANY, WHOLE, SsdCrops, draw_patches, overlaps
from yolo.datasets.sample import NO_BOXES, NO_LABELS, Sample
from yolo.datasets.task import Task
from yolo.errors import CfgError
from yolo.training.loader import views_of

WIDTH, HEIGHT = 96, 64
PIXEL = np.array([1 / WIDTH, 1 / HEIGHT]) - 1e-6
CENTERED = np.array([[0, 0.5, 0.5, 0.25, 0.25]], np.float32)
TINY = np.array([[0, 0.5, 0.5, 0.01, 0.01]], np.float32)
PLAIN = Augmentation(flip=False, ssd=SsdCrops())
seeds = st.integers(0, 2**32 - 1)


@st.composite
def sized_boxes(draw: st.DrawFn) -> tuple[int, int, NDArray[np.float32]]:
    """Width and height of an image, and its boxes (M, 5): everything inside it."""
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    edge = st.floats(0, 1, width=32)
    edges = draw(st.lists(st.tuples(edge, edge, edge, edge), max_size=6))
    corners = np.array(edges, np.float32).reshape(-1, 2, 2)
    low, high = corners.min(1), corners.max(1)
    boxes = np.concatenate((np.zeros((len(low), 1)), (low + high) / 2, high - low), 1)
    return width, height, boxes[(high - low > 1e-3).all(1)].astype(np.float32)


def center_is_inside(region: tuple[int, ...], centers: NDArray[np.float64]) -> NDArray[np.bool_]:
    left, top, right, bottom = region
    x, y = centers.T
    return (left <= x) & (x <= right) & (top <= y) & (y <= bottom)


@given(drawn=sized_boxes(), least=st.sampled_from((ANY, 0.1, 0.3, 0.5, 0.7, 0.9)), seed=seeds)
def test_a_patch_overlaps_an_object_and_shows_a_centre(
    drawn: tuple[int, int, NDArray[np.float32]], least: float, seed: int
) -> None:
    width, height, boxes = drawn
    region = SsdCrops(1, (least,)).draw(width, height, boxes, np.random.default_rng(seed))
    left, top, right, bottom = region
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    if region == (0, 0, width, height) or not len(boxes):
        return
    assert right - left >= 0.3 * width
    assert bottom - top >= 0.3 * height
    assert 0.5 <= (right - left) / (bottom - top) <= 2
    scaled = torch.from_numpy(boxes[:, 1:]).double() * torch.tensor([width, height] * 2)
    middle = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    assert float(iou(torch.tensor(middle).double(), scaled).max()) >= least - 1e-9
    assert center_is_inside(region, scaled[:, :2].numpy()).any()


@given(drawn=sized_boxes(), seed=seeds)
def test_overlaps_are_those_of_iou(drawn: tuple[int, int, NDArray[np.float32]], seed: int) -> None:
    width, height, boxes = drawn
    patches = draw_patches((-20, -10, width + 5, height), np.random.default_rng(seed))
    low, high = (torch.from_numpy(part).double() for part in (patches[:, :2], patches[:, 2:]))
    regions = torch.cat(((low + high) / 2, high - low), 1)
    scaled = torch.from_numpy(boxes[:, 1:]).double() * torch.tensor([width, height] * 2)
    expected = iou(regions[:, None], scaled).numpy()
    assert overlaps(patches, boxes, width, height) == pytest.approx(expected, abs=1e-6)


@given(drawn=sized_boxes(), expand=st.floats(1, 6), flip=st.booleans(), seed=seeds)
def test_boxes_lie_inside_and_are_those_whose_centres_show(
    drawn: tuple[int, int, NDArray[np.float32]], expand: float, flip: bool, seed: int
) -> None:
    width, height, boxes = drawn
    boxes[:, 0] = np.arange(len(boxes))
    settings = Augmentation(flip=flip, ssd=SsdCrops(expand))
    image = np.zeros((height, width, 1), np.uint8)
    crop = draw_crop(image, boxes, settings, 1.5, np.random.default_rng(seed))
    moved = crop.boxes(boxes, WIDTH, HEIGHT)
    low, high = moved[:, 1:3] - moved[:, 3:] / 2, moved[:, 1:3] + moved[:, 3:] / 2
    assert (low >= -1e-6).all()
    assert (high <= 1 + 1e-6).all()
    assert (moved[:, 3:] >= PIXEL).all()
    region = (crop.left, crop.top, width - crop.right, height - crop.bottom)
    shown = center_is_inside(region, boxes[:, 1:3] * np.array([width, height]))
    assert shown[moved[:, 0].astype(int)].all()
    assert shown.any() or not len(boxes)


def test_boxes_are_dropped_by_their_centres_for_ssd_only() -> None:
    boxes = np.array([[0, 0.4, 0.5, 0.4, 0.2], [1, 0.6, 0.5, 0.4, 0.2]], np.float32)
    darknet = Margins(100, 100, 50, 0, 0, 0)
    assert darknet.boxes(boxes, 100, 100)[:, 0].tolist() == [0, 1]
    patch = dataclasses.replace(darknet, by_center=True)
    # the second box, from 40 to 80, is cut at 50
    assert patch.boxes(boxes, 100, 100) == pytest.approx(np.array([[1, 0.3, 0.5, 0.6, 0.2]]))


def regions(crops: SsdCrops, boxes: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    random = np.random.default_rng(0)
    return np.array([crops.draw(200, 100, boxes, random) for _ in range(count)])


def test_every_second_image_is_on_a_canvas() -> None:
    drawn = regions(SsdCrops(4, (WHOLE,)), CENTERED, 2000)
    zoomed = drawn[(drawn != (0, 0, 200, 100)).any(1)]
    assert 900 < len(zoomed) < 1100
    ratios = (zoomed[:, 2:] - zoomed[:, :2]) / (200, 100)
    assert np.abs(ratios[:, 0] - ratios[:, 1]).max() < 0.02
    assert 1 <= ratios.min() < 1.1
    assert 3.9 < ratios.max() <= 4
    assert ratios.mean() == pytest.approx(2.5, abs=0.1)
    assert (zoomed[:, :2] <= 0).all()
    assert (zoomed[:, 2:] >= (200, 100)).all()
    positions = -zoomed[:, :2] / (zoomed[:, 2:] - zoomed[:, :2] - (200, 100)).clip(1)
    assert positions.mean(0) == pytest.approx(np.array([0.5, 0.5]), abs=0.05)


@pytest.mark.parametrize("expand", [1, 0.5, 0, -3])
def test_without_expand_there_is_no_canvas(expand: float) -> None:
    drawn = regions(SsdCrops(expand), CENTERED, 200)
    assert drawn.min() >= 0
    assert (drawn[:, 2:] <= (200, 100)).all()


@pytest.mark.parametrize(
    ("options", "boxes", "share"),
    [
        ((WHOLE,), CENTERED, 1),
        ((WHOLE, ANY), CENTERED, 1 / 2),
        ((WHOLE, ANY, 0.0, 0.0), CENTERED, 1 / 4),
        ((WHOLE, ANY, 0.1), CENTERED, 1 / 3),
        # no patch overlaps so small a box that much
        ((WHOLE, 0.9), TINY, 1),
        ((WHOLE, ANY, 0.5, 0.9), TINY, 1 / 2),
        ((WHOLE, 0.5, 0.9), NO_BOXES, 1 / 3),
    ],
)
def test_options_that_can_be_are_equally_likely(
    options: tuple[float, ...], boxes: NDArray[np.float32], share: float
) -> None:
    drawn = regions(SsdCrops(1, options), boxes, 1000)
    whole = (drawn == (0, 0, 200, 100)).all(1).mean()
    assert whole == pytest.approx(share, abs=0.06)


def test_the_sides_of_patches_are_spread() -> None:
    random = np.random.default_rng(0)
    patches = np.concatenate([draw_patches((0, 0, 200, 200), random) for _ in range(100)])
    low, sides = patches[:, :2], patches[:, 2:] - patches[:, :2]
    assert 60 <= sides.min() < 65
    assert 195 < sides.max() <= 200
    free = 200 - sides
    assert (low[free > 40] / free[free > 40]).mean() == pytest.approx(0.5, abs=0.02)


def augmented(how: Augmentation, seed: int) -> Sample:
    random = np.random.default_rng(seed)
    own = painted(random, 4, 2)
    sample = detector_sample(own, lambda: painted(random, 4, 2), how, WIDTH, HEIGHT, random)
    assert sample.image.shape == (HEIGHT, WIDTH, 3)
    assert sample.image.dtype == np.uint8
    return sample


def bright(image: NDArray[np.uint8], least: int = 128) -> NDArray[np.bool_]:
    """Painted pixels; the mean colour of padding is darker"""
    return image[:, :, 0] > least


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flip": True},
        {"ssd": SsdCrops(1)},
        {"ssd": SsdCrops(3, (WHOLE,)), "flip": True},
        {"letter_box": True},
        {"hue": 0.2, "saturation": 1.5, "exposure": 1.3},
    ],
    ids=str,
)
def test_pixels_and_boxes_move_together(changes: dict[str, object]) -> None:
    count = 0
    for seed in range(100):
        sample = augmented(dataclasses.replace(PLAIN, **changes), seed)
        rows, columns = np.nonzero(bright(sample.image))
        for box in sample.boxes[:, 1:]:
            low, high = ((box[:2] + sign * box[2:] / 2) * (WIDTH, HEIGHT) for sign in (-1, 1))
            pixels = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.concatenate((low, high)) == pytest.approx(np.array(pixels), abs=1.6)
            count += 1
    assert count > 95  # one box an image, whose centre is always seen


@pytest.mark.parametrize("mixing", [MIXUP, MOSAIC])
@pytest.mark.parametrize("bound", [True, False])
def test_boxes_of_mixed_images_show(mixing: int, bound: bool) -> None:
    how = dataclasses.replace(PLAIN, flip=True, mixing=mixing, mosaic_bound=bound)
    most = 0
    for seed in range(100):
        sample = augmented(how, seed)
        most = max(most, len(sample.boxes))
        low, high = (
            ((sample.boxes[:, 1:3] + sign * sample.boxes[:, 3:] / 2) * (WIDTH, HEIGHT)).round()
            for sign in (-1, 1)
        )
        for (left, top), (right, bottom) in zip(low.astype(int), high.astype(int), strict=True):
            # halved by mixup
            inside = bright(sample.image, 100)[top:bottom, left:right]
            if min(inside.shape) > 5 and (bound or mixing == MIXUP):
                assert inside.mean() > 0.7
    assert most >= (3 if mixing == MOSAIC else 2)


def test_the_canvas_has_the_mean_colour() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    image[:, :, 1] //= 4
    mean = image[::8, ::8].mean((0, 1))
    sample = Sample(image, CENTERED, NO_LABELS, "", (96, 64))
    how = dataclasses.replace(PLAIN, ssd=SsdCrops(4, (WHOLE,)))
    padded = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        crop = draw_crop(image, CENTERED, how, 1.5, np.random.default_rng(seed))
        out = detector_sample(sample, lambda: sample, how, WIDTH, HEIGHT, random).image
        # whole pixels of padding before the image
        x, y = -crop.left * WIDTH // crop.size[0], -crop.top * HEIGHT // crop.size[1]
        assert np.abs(out[: max(0, y - 1)] - mean).max(initial=0) <= 1
        assert np.abs(out[:, : max(0, x - 1)] - mean).max(initial=0) <= 1
        padded += x > 2 and y > 2
    assert padded > 5


@given(
    margins=st.tuples(*[st.integers(-150, 30)] * 4),
    flip=st.booleans(),
    channels=st.sampled_from((1, 3)),
)
def test_a_canvas_is_as_padding_and_resizing(
    margins: tuple[int, int, int, int], flip: bool, channels: int
) -> None:
    """Darknet's way, which makes the canvas first; its outermost pixels are repeated ones"""
    noise = np.random.default_rng(0).integers(0, 256, (80, 120, channels), np.uint8)
    image = cv2.GaussianBlur(noise, (15, 15), 0).reshape(noise.shape)
    darknet = Margins(120, 80, *margins, flip)
    ssd = dataclasses.replace(darknet, by_center=True)
    expected, actual = (
        crop.pixels(image, WIDTH, HEIGHT).astype(int)[3:-3, 3:-3] for crop in (darknet, ssd)
    )
    assert np.abs(actual - expected).max() <= 6


def test_images_too_long_to_be_warped() -> None:
    image = np.full((8, 40_000, 1), 100, np.uint8)
    crop = Margins(40_000, 8, -100, -100, -8, 0, by_center=True)
    assert (crop.pixels(image, WIDTH, HEIGHT) == 100).all()


def test_images_without_boxes() -> None:
    how = dataclasses.replace(PLAIN, flip=True)
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 1), np.uint8)
    sample = Sample(image, NO_BOXES, NO_LABELS, "", (70, 50))
    for seed in range(100):
        random = np.random.default_rng(seed)
        out = detector_sample(sample, lambda: sample, how, WIDTH, HEIGHT, random)
        assert out.image.shape == (HEIGHT, WIDTH, 1)
        assert len(out.boxes) == 0
        assert out.image.std() > 0, "only padding"


def test_letter_box_keeps_proportions() -> None:
    how = dataclasses.replace(PLAIN, letter_box=True)
    image = np.zeros((300, 400, 3), np.uint8)
    for seed in range(50):
        crop = draw_crop(image, CENTERED, how, 1.5, np.random.default_rng(seed))
        assert crop.size[0] / crop.size[1] == pytest.approx(1.5, rel=0.04)


@pytest.mark.parametrize("mixing", [NONE, MIXUP, MOSAIC])
def test_the_same_seed_gives_the_same(mixing: int) -> None:
    how = dataclasses.replace(PLAIN, flip=True, hue=0.1, mixing=mixing)
    first, second, other = (augmented(how, seed) for seed in (5, 5, 6))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.boxes, second.boxes)
    assert not np.array_equal(first.image, other.image)


def test_darknets_own_draws_are_as_ever() -> None:
    """Numbers of the version before there was [ssd]: seeds of old trainings keep their meaning"""
    how = Augmentation(jitter=0.3, resize=1.5)
    boxed = dataclasses.replace(how, letter_box=True)
    image = np.zeros((70, 100, 3), np.uint8)
    random = np.random.default_rng(1)
    crops = [draw_crop(image, CENTERED, each, 1.5, random) for each in (how, boxed)]
    assert crops == [
        Margins(100, 70, left=40, right=-33, top=6, bottom=5),
        Margins(100, 70, left=5, right=-32, top=-3, bottom=11, flip=True),
    ]
    assert random.random() == 0.303194829291645


def cfg(head: str, net: str = "") -> Cfg:
    text = f"[net]\nwidth=300\nheight=300\nchannels=3\n{net}\n[ssd]\n{head}\n"
    return Cfg(text.encode(), "x.cfg")


def settings_of(head: str, net: str = "") -> Augmentation:
    parsed = cfg(head, net)
    return Augmentation.of(parsed.net, Task(True, 20, 3, 300, 300), views_of(parsed))


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("", SsdCrops(4.0, (WHOLE, ANY, 0.1, 0.3, 0.5, 0.7, 0.9))),
        ("expand=1\ncrops=1", SsdCrops(1.0, (WHOLE,))),
        ("expand=2.5\ncrops=.4", SsdCrops(2.5, (WHOLE, ANY, 0.4))),
        ("crops=0", SsdCrops(4.0, (WHOLE, ANY, 0.0))),
        ("jitter=-1\nresize=0", SsdCrops()),
    ],
)
def test_settings(head: str, expected: SsdCrops) -> None:
    assert settings_of(head).ssd == expected


def test_settings_of_net_stay() -> None:
    options = settings_of("", "flip=0\nhue=.1\nmosaic=1")
    assert (options.flip, options.hue, options.mixing) == (False, 0.1, MOSAIC)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("crops=2", r"x.cfg:7: \[ssd\] crops=2: expected least IoUs"),
        ("expand=4\ncrops=.1,-.3", r"x.cfg:8: \[ssd\] crops=.1,-.3: expected least IoUs"),
        ("crops=.5,1", r"x.cfg:7: .*1 alone for no crops"),
        ("crops=", "x.cfg:7: .*crops has no value"),
        ("crops=.1,,.3", "x.cfg:7: .*not a finite number"),
        ("crops=.1\nexpand=x", "x.cfg:8: .*expand=x is not a finite number"),
        ("expand=1e9", r"x.cfg:7: \[ssd\] expand=1e\+09: expected at most 100"),
    ],
)
def test_settings_that_cannot_be(head: str, message: str) -> None:
    with pytest.raises(CfgError, match=message):
        settings_of(head)
