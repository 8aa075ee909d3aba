"""Which images come when, whoever asks for them; and what happens to those that are wrong."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from cfgs import net
from paths import ROOT

from yolo.cfg import Cfg
from yolo.datasets import sources
from yolo.datasets.batch import Batch
from yolo.datasets.data import Data
from yolo.datasets.images import read_image
from yolo.datasets.resize import center_crop_darknet, letterbox_darknet, resize_darknet
from yolo.errors import DarknetError, DataError
from yolo.evaluation.loader import evaluation_loader
from yolo.training.loader import training_loader

IMAGES = 11
NET = net(32, 64, hue=".1", saturation=1.5, exposure=1.5)
DETECTOR = NET + "[yolo]\nclasses=2\njitter=.3\nrandom=0\n"
CLASSIFIER = NET + "label_smooth_eps=.2\n[avgpool]\n[softmax]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of noise: 11 images of two classes, with a box each"""
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        name = tmp_path / f"{number}_{('cat', 'dog')[number % 2]}"
        width, height = random.integers(20, 60, 2)
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        cv2.imwrite(f"{name}.png", cv2.GaussianBlur(image, (5, 5), 0))
        name.with_suffix(".txt").write_text(f"{number % 2} .5 .5 .4 .4\n")
    lines = [f"{number}_{('cat', 'dog')[number % 2]}.png\n" for number in range(IMAGES)]
    (tmp_path / "all.txt").write_text("".join(lines))
    (tmp_path / "x.names").write_text("cat\ndog\n")
    (tmp_path / "x.data").write_text("train = all.txt\nvalid = all.txt\nnames = x.names\n")
    return tmp_path


def load(folder: Path) -> Data:
    return sources.load(folder / "x.data")


def cfg(text: str = DETECTOR, net: str = "") -> Cfg:
    return Cfg(text.replace("[net]\n", f"[net]\n{net}\n").encode(), "x.cfg")


def train(folder: Path, text: str = DETECTOR, net: str = "", **options: int) -> list[Batch]:
    how = {"batch": 4, "subdivisions": 2, "seed": 5, "epoch": 0, "workers": 0} | options
    return list(training_loader(load(folder), cfg(text, net), **how))  # type: ignore[arg-type]


def paths(batches: list[Batch]) -> list[str]:
    return [Path(path).name for batch in batches for path in batch.paths]


def same(first: list[Batch], second: list[Batch]) -> bool:
    """Bit for bit"""
    return len(first) == len(second) and all(
        torch.equal(a.images, b.images)
        and torch.equal(a.boxes, b.boxes)
        and torch.equal(a.labels, b.labels)
        and a.paths == b.paths
        and a.sizes == b.sizes
        for a, b in zip(first, second, strict=True)
    )


def test_a_training_batch(folder: Path) -> None:
    batch = train(folder)[0]
    assert len(batch) == 2
    assert batch.images.shape == (2, 3, 64, 32)
    assert batch.images.dtype == torch.uint8
    assert batch.boxes.dtype == torch.float32
    assert batch.labels.shape == (2, 0)
    assert batch.boxes[:, 0].tolist() == [0, 1]
    for number, path in enumerate(batch.paths):
        assert batch.boxes[number, 1] == ("dog" in Path(path).name)
        assert batch.sizes[number] == read_image(path).shape[1::-1]


def test_without_variation_it_is_the_image(folder: Path) -> None:
    text = "[net]\nwidth=32\nheight=64\nchannels=1\nflip=0\n[yolo]\nclasses=2\njitter=0\n"
    for batch in train(folder, text):
        for number, path in enumerate(batch.paths):
            image = cv2.resize(read_image(path, 1), (32, 64))
            assert np.array_equal(batch.images[number, 0].numpy(), image)
        assert torch.allclose(batch.boxes[:, 2:], torch.tensor([0.5, 0.5, 0.4, 0.4]))


@pytest.mark.parametrize(("batch", "subdivisions"), [(4, 2), (4, 3), (11, 1), (16, 4), (1, 8)])
def test_every_image_comes_in_every_epoch(folder: Path, batch: int, subdivisions: int) -> None:
    batches = train(folder, batch=batch, subdivisions=subdivisions)
    names = paths(batches)
    steps = -(-IMAGES // batch)
    parts = min(batch, subdivisions)
    assert len(batches) == steps * parts
    assert len(names) == steps * batch
    assert len(set(names[:IMAGES])) == IMAGES
    # what fills the last step comes from the start
    assert names[IMAGES:] == names[: len(names) - IMAGES]
    lengths = [len(b) for b in batches[:parts]]
    assert sum(lengths) == batch
    assert max(lengths) - min(lengths) <= 1


def test_epochs_and_seeds_differ_and_repeat(folder: Path) -> None:
    orders = [
        paths(train(folder, seed=seed, epoch=epoch)) for seed in (1, 2) for epoch in (0, 1, 2)
    ]
    assert len({tuple(order) for order in orders}) == 6
    assert same(train(folder, seed=2, epoch=1), train(folder, seed=2, epoch=1))
    # the same image, drawn differently
    pixels = {b.images.numpy().tobytes() for e in range(4) for b in train(folder, epoch=e, batch=1)}
    assert len(pixels) == 4 * IMAGES


MIXED = {"net": "mosaic=1", "batch": 4, "subdivisions": 2}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(folder: Path, workers: int) -> None:
    before = torch.get_rng_state()
    assert same(train(folder, **MIXED), train(folder, workers=workers, **MIXED))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("start", [1, 2, 3])
def test_start_resumes(folder: Path, start: int) -> None:
    text = DETECTOR.replace("random=0", "random=1")
    whole = train(folder, text, epoch=5)
    assert same(whole[2 * start :], train(folder, text, epoch=5, start=start))


@pytest.mark.parametrize(
    ("batch", "subdivisions", "world"), [(4, 2, 2), (8, 4, 2), (6, 1, 2), (6, 2, 3), (12, 3, 2)]
)
def test_processes_together_see_what_one_sees(
    folder: Path, batch: int, subdivisions: int, world: int
) -> None:
    how = {"batch": batch, "subdivisions": subdivisions, "net": "mosaic=1"}
    whole = train(folder, **how)  # type: ignore[arg-type]
    ranks = [train(folder, rank=r, world=world, **how) for r in range(world)]  # type: ignore[arg-type]
    assert len({len(rank) for rank in ranks}) == 1
    merged = [batch for together in zip(*ranks, strict=True) for batch in together]
    if subdivisions % world == 0:
        assert same(whole, merged)
    else:
        assert paths(whole) == paths(merged)
        first, second = (torch.cat([b.images for b in batches]) for batches in (whole, merged))
        assert torch.equal(first, second)
        first, second = (
            torch.cat([b.boxes[:, 1:] for b in batches]) for batches in (whole, merged)
        )
        assert torch.equal(first, second)


def test_too_many_processes(folder: Path) -> None:
    with pytest.raises(DataError, match="batch=2 with subdivisions=1 is too small for 3 processes"):
        train(folder, batch=2, subdivisions=1, world=3)


def test_multi_scale(folder: Path) -> None:
    text = DETECTOR.replace("random=0", "random=1")
    sizes = [
        {tuple(b.images.shape[2:]) for b in train(folder, text, batch=1, subdivisions=1, epoch=e)}
        for e in range(6)
    ]
    assert sizes[0] == {(128, 64), *sizes[0]}
    assert len(set.union(*sizes)) > 2
    fixed = training_loader(
        load(folder), cfg(text), batch=4, subdivisions=1, seed=0, epoch=0, workers=0, size=(96, 32)
    )
    assert {tuple(batch.images.shape[2:]) for batch in fixed} == {(32, 96)}


@pytest.mark.parametrize("workers", [0, 2])
def test_the_cache_outlives_an_epoch(folder: Path, workers: int) -> None:
    fresh = [train(folder, epoch=epoch, **MIXED) for epoch in (0, 1)]
    cached = train(folder, epoch=0, workers=workers, cache=16, **MIXED)
    for path in folder.glob("*.png"):
        path.write_bytes(b"")
    assert same(cached, fresh[0])
    assert same(train(folder, epoch=1, workers=workers, cache=16, **MIXED), fresh[1])


def test_a_full_cache_reads_on(folder: Path) -> None:
    big = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    cv2.imwrite(str(folder / "0_cat.png"), big)
    assert same(train(folder), train(folder, cache=1))


def test_classifiers(folder: Path) -> None:
    batches = train(folder, CLASSIFIER)
    for batch in batches:
        assert batch.boxes.shape == (0, 6)
        for label, path in zip(batch.labels.tolist(), batch.paths, strict=True):
            assert label == pytest.approx([0.8, 0.2] if "cat" in path else [0.2, 0.8])
    (batch,) = evaluation_loader(load(folder), cfg(CLASSIFIER), batch=IMAGES, workers=0)
    assert batch.labels.tolist() == [[1 - n % 2, n % 2] for n in range(IMAGES)]
    for number, path in enumerate(batch.paths):
        pixels = center_crop_darknet(read_image(path), 32, 64)
        assert np.array_equal(batch.images[number].numpy().transpose(1, 2, 0), pixels)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation(folder: Path, workers: int) -> None:
    (folder / "3_dog.txt").write_text("1 .9 .5 .4 .4\n0 .5 .5 0 .4\n")
    loader = evaluation_loader(load(folder), cfg(), batch=4, workers=workers)
    batches = list(loader)
    assert len(loader) == len(batches) == 3
    assert paths(batches) == [f"{n}_{('cat', 'dog')[n % 2]}.png" for n in range(IMAGES)]
    for batch in batches:
        assert batch.images.dtype == torch.float32
        for number, path in enumerate(batch.paths):
            pixels = resize_darknet(read_image(path), 32, 64)
            assert np.array_equal(batch.images[number].numpy().transpose(1, 2, 0), pixels)
    # as they stand, overshooting and without area
    expected = torch.tensor([[3, 1, 0.9, 0.5, 0.4, 0.4], [3, 0, 0.5, 0.5, 0, 0.4]])
    assert torch.equal(batches[0].boxes[-2:], expected)


@pytest.mark.parametrize("asked", [{"letterbox": True}, {}])
def test_evaluation_in_a_letterbox(folder: Path, asked: dict[str, bool]) -> None:
    how = cfg(net="" if asked else "letter_box=1")
    for batch in evaluation_loader(load(folder), how, workers=0, **asked):
        for number, path in enumerate(batch.paths):
            pixels, _ = letterbox_darknet(read_image(path), 32, 64)
            assert np.array_equal(batch.images[number].numpy().transpose(1, 2, 0), pixels)
            box = [0.5, 0.5, 0.4, 0.4]  # of the image file
            assert batch.boxes[number, 2:].tolist() == pytest.approx(box, abs=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_skipped_and_named(folder: Path, workers: int) -> None:
    (folder / "3_dog.png").write_bytes(b"")
    (folder / "8_cat.png").unlink()
    evaluation = evaluation_loader(load(folder), cfg(), workers=workers)
    assert len(paths(list(evaluation))) == IMAGES - 2
    reasons = ["the image file is empty", "can't read the image: No such file or directory"]
    loader = training_loader(
        load(folder), cfg(), batch=4, subdivisions=2, seed=0, epoch=0, workers=workers
    )
    assert len(paths(list(loader))) == 12
    for skipped in (evaluation.skipped, loader.skipped):
        assert [Path(path).name for path, _ in sorted(skipped)] in (
            ["3_dog.png", "8_cat.png"],
            ["8_cat.png", "3_dog.png"],
        )
        assert all(
            reason in text for (_, text), reason in zip(sorted(skipped), reasons, strict=True)
        )


def test_no_readable_image(folder: Path) -> None:
    for path in folder.glob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"no image .*_\w+.png: not an image"):
        list(evaluation_loader(load(folder), cfg(), workers=0))
    with pytest.raises(DataError, match=r"no image of train can be read: .*_\w+.png: not an"):
        train(folder)


def test_problems_are_counted_once(folder: Path) -> None:
    (folder / "1_dog.txt").write_text("1 .9 .5 .4 .4\n0 .5 .5 0 .4\n")
    (folder / "2_cat.txt").unlink()
    for batch in (4, 32):
        loader = training_loader(
            load(folder), cfg(), batch=batch, subdivisions=1, seed=0, epoch=0, workers=0
        )
        for _ in range(2):
            list(loader)
            problems = loader.problems
            assert (problems.clipped, problems.dropped, problems.missing) == (1, 1, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_wrong_label_is_one_line(folder: Path, workers: int) -> None:
    (folder / "5_dog.txt").write_text("0 .5 .5 .1 .1\n7 .5 .5 .1 .1\n")
    for run in (
        lambda: train(folder, workers=workers),
        lambda: list(evaluation_loader(load(folder), cfg(), workers=workers)),
    ):
        with pytest.raises(DataError) as caught:
            run()
        assert str(caught.value) == f"{folder}/5_dog.txt:2: class 7, but there are 2 classes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DETECTOR.replace("classes=2", "classes=3"), r"2 names, but x.cfg:9: \[yolo\] .*classes=3"),
        (DETECTOR.replace("channels=3", "channels=4"), "channels=4: images have 1 or 3"),
    ],
)
def test_a_cfg_that_does_not_fit(folder: Path, text: str, message: str) -> None:
    with pytest.raises(DarknetError, match=message):
        train(folder, text)
    with pytest.raises(DarknetError, match=message):
        evaluation_loader(load(folder), cfg(text))


ENDLESS = """
import sys
from yolo.cfg import Cfg
from yolo.datasets import sources
from yolo.training.loader import training_loader
data, cfg = sources.load(sys.argv[1]), Cfg(sys.argv[2].encode(), "x.cfg")
try:
    for epoch in range(10**6):
        how = dict(batch=4, subdivisions=2, seed=0, epoch=epoch, workers=2)
        for batch in training_loader(data, cfg, **how):
            print("batch", flush=True)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_control_c_is_quiet(folder: Path) -> None:
    """Ctrl-C reaches the workers, too"""
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(folder / "x.data"), DETECTOR],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == "batch\n"
        os.killpg(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert out.endswith("interrupted\n")
    assert errors == ""
