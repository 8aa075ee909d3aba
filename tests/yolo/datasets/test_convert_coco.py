"""tools/convert.py coco: JSON of instances, boxes and polygons."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest
from foreign_data import labels, write_image

from yolo.datasets import sources
from yolo.datasets.formats.coco import CocoSource, coco, find_instances
from yolo.errors import DataError

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def instance(image, category, bbox, **more):
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


TRAIN = {
    "images": [{"id": 5, "file_name": "a.jpg"}, {"id": 6, "file_name": "missing.jpg"}],
    "categories": CATEGORIES,
    "annotations": [
        instance(
            5, 7, [10, 5, 20, 10], segmentation=[[10, 5, 30, 5, 30, 15], [0, 0, 50, 0, 40, 20, 1]]
        ),
        instance(5, 3, [30, 5, 20, 10], segmentation={"counts": "abc", "size": [20, 40]}),
        instance(5, 3, [0, 0, 40, 20], iscrowd=1),
        instance(5, 3, [1, 1, 0, 9]),
        instance(5, 3, [1, 1, None, 9]),
        instance(5, 3, "none"),
        instance(99, 3, [1, 1, 5, 5]),
    ],
}
VALID = {"images": [{"id": 5, "file_name": "a.jpg"}], "categories": CATEGORIES, "annotations": []}


@pytest.fixture
def source(tmp_path):
    """As COCO: the two splits have an image of the same name."""
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    for split, content in (("train2017", TRAIN), ("val2017", VALID)):
        write_image(folder / split / "a.jpg")
        path = folder / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(content))
    return folder


def test_boxes(command, source, tmp_path):
    ended = command.run("convert", "coco", source, tmp_path / "o")
    assert ended.code == 0
    rows = dict(re.findall(r"\| (.*?) +\| +(\d+) \|", ended.out))
    assert rows == {
        "train images": "1",
        "valid images": "1",
        "boxes": "2",
        "of them clipped": "1",
        "dropped: no area": "3",
        "left out: crowds": "1",
        "left out: without image": "1",
        "skipped images": "1",
    }
    assert "skipped missing.jpg: there is no such image" in ended.out
    assert sources.load(tmp_path / "o" / "o.data").names == ("cat", "dog")
    expected = [[1, 0.5, 0.5, 0.5, 0.5], [0, 0.875, 0.5, 0.25, 0.5]]
    assert labels(tmp_path / "o", "a.jpg") == expected
    assert (tmp_path / "o" / "valid.txt").read_text() == "images/a-2.jpg\n"
    assert (tmp_path / "o" / "labels" / "a-2.txt").read_text() == ""
    assert not (tmp_path / "o" / "polygons").exists()


def test_polygons_are_written_by_part_and_stay_inside(command, source, tmp_path):
    assert command.run("convert", "coco", source, tmp_path / "o", "--polygons").code == 0
    lines = (tmp_path / "o" / "polygons" / "a.txt").read_text().splitlines()
    polygons = [np.array(line.split(), float).tolist() for line in lines]
    assert polygons == [[1, 0.25, 0.25, 0.75, 0.25, 0.75, 0.75], [1, 0, 0, 1, 0, 1, 1]]


def test_one_json_is_split_by_chance_or_used_twice(command, tmp_path):
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(10)]
    for image in images:
        write_image(tmp_path / "pictures" / image["file_name"])
    box = {"image_id": 0, "category_id": CATEGORIES[0]["id"], "bbox": [1, 1, 4, 4]}
    content = {"images": images, "categories": CATEGORIES, "annotations": [box]}
    (tmp_path / "x.json").write_text(json.dumps(content))
    arguments = ("coco", tmp_path / "x.json", tmp_path / "o", "--images", tmp_path / "pictures")
    assert command.run("convert", *arguments).code == 0
    data = sources.load(tmp_path / "o" / "o.data")
    assert sources.images(data, "train") == sources.images(data, "valid")
    assert command.run("convert", *arguments, "--force", "--valid-share", "0.3").code == 0
    data = sources.load(tmp_path / "o" / "o.data")
    train, valid = set(sources.images(data, "train")), set(sources.images(data, "valid"))
    assert (len(train), len(valid), train & valid) == (7, 3, set())


def test_other_layouts_are_found(tmp_path):
    """Images beside their JSON, as labelling services export them."""
    for part in ("train", "valid"):
        write_image(tmp_path / part / "a.jpg")
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(VALID))
    splits = find_instances(tmp_path)
    assert {split: path.parent.name for split, path in splits.items()} == {
        "train": "train",
        "valid": "valid",
    }
    pictures = list(coco(CocoSource(splits, (tmp_path,))).pictures)
    assert [picture.content.parent.name for picture in pictures] == ["train", "valid"]
    (tmp_path / "train" / "second.json").write_text("{}")
    with pytest.raises(
        DataError, match=r"several JSON files for train: .*; choose one with --train"
    ):
        find_instances(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", r"x\.json:1: not JSON"),
        ("[" * 100_000, r"x\.json"),
        ("[]", "expected lists of images, annotations, categories"),
        (json.dumps({**VALID, "images": [3]}), "expected lists"),
        (json.dumps({**VALID, "images": [{"id": 1}]}), "image without id or file_name"),
        (json.dumps({**VALID, "categories": []}), "no categories"),
        (json.dumps({**VALID, "categories": [{"id": "a", "name": "b"}]}), "category without id"),
        (json.dumps({**VALID, "annotations": [instance(5, 99, [1, 1, 2, 2])]}), "category 99"),
        (json.dumps({**VALID, "annotations": [instance(5, [], [1, 1, 2, 2])]}), "of category"),
    ],
)
def test_what_isnt_coco_is_one_line(command, tmp_path, content, reason):
    (tmp_path / "x.json").write_text(content)
    ended = command.run("convert", "coco", tmp_path / "x.json", tmp_path / "o")
    assert ended.code == 2
    assert re.match(rf"error: .*{reason}.*\n$", ended.err)
    assert not (tmp_path / "o").exists()


def test_categories_must_agree(source):
    path = source / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps({**VALID, "categories": [{"id": 3, "name": "cow"}]}))
    with pytest.raises(DataError, match="category 3 is cow, but also cat"):
        coco(CocoSource(find_instances(source), (source,)))


def test_boxes_as_pycocotools_reads_them(shared, tmp_path, command):
    """Real boxes, through the JSON and through COCO's own library."""
    pycocotools = pytest.importorskip("pycocotools.coco")
    data = shared / "data" / "coco128"
    names = (data / "coco.names").read_text().split("\n")[:80]
    content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 2 * number + 1, "name": name} for number, name in enumerate(names)],
    }
    for number, path in enumerate(sorted((data / "images").iterdir())[:10]):
        content["images"].append({"id": number, "file_name": path.name})
        height, width = cv2.imread(str(path)).shape[:2]
        content["images"][-1].update(width=width, height=height)
        text = (data / "labels" / f"{path.stem}.txt").read_text()
        for row in np.array(text.split(), float).reshape(-1, 5):
            x, y, w, h = row[1:] * (width, height, width, height)
            box = [x - w / 2, y - h / 2, w, h]
            item = instance(number, int(2 * row[0] + 1), box, id=len(content["annotations"]) + 1)
            content["annotations"].append(item)
    (tmp_path / "x.json").write_text(json.dumps(content))
    arguments = ("coco", tmp_path / "x.json", tmp_path / "o", "--images", data / "images")
    assert command.run("convert", *arguments).code == 0
    reference = pycocotools.COCO(tmp_path / "x.json")
    for image in content["images"]:
        size = np.array([image["width"], image["height"]] * 2)
        expected = []
        for item in reference.loadAnns(reference.getAnnIds(imgIds=image["id"])):
            x, y, w, h = item["bbox"]
            box = np.array([x + w / 2, y + h / 2, w, h]) / size
            expected.append([(item["category_id"] - 1) / 2, *box])
        rows = labels(tmp_path / "o", image["file_name"], 80)
        np.testing.assert_allclose(rows, expected, atol=2e-6)
