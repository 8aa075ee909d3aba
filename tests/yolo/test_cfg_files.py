"""The models in cfg/: their layers, parameters and shapes are the published ones.

Expected numbers come from outside: Darknet's own count of what it writes to a .weights file and
its own layer shapes; the published parameter counts of ResNet, VGG, LeNet and YOLOv3; the published
file sizes (4 bytes a float after a header of 20).
"""

import re
from dataclasses import astuple, dataclass
from pathlib import Path

import pytest
from paths import ROOT

from pruning.bayesian.convert import with_posteriors
from yolo.cfg import Cfg
from yolo.network import Network

FOLDER = ROOT / "cfg"


@dataclass(frozen=True)
class Published:
    layers: int
    floats: int  # in the .weights file, after its header
    parameters: int  # learnable: the floats without running means and variances
    heads: dict[int, tuple[int, int, int]]  # what enters the output sections
    inner: dict[int, tuple[int, int, int]]  # some other layers' output, (C, H, W)


SSD300 = {
    30: (16, 38, 38), 34: (24, 19, 19), 38: (24, 10, 10),
    42: (24, 5, 5), 46: (16, 3, 3), 50: (16, 1, 1),
    32: (84, 38, 38), 36: (126, 19, 19), 40: (126, 10, 10),
    44: (126, 5, 5), 48: (84, 3, 3), 52: (84, 1, 1),
}  # fmt: skip
MODELS = {
    "yolov2-tiny": Published(
        16, 11_237_145, 11_232_057,
        heads={14: (425, 13, 13)},
        inner={0: (16, 416, 416), 11: (512, 13, 13), 12: (1024, 13, 13)},
    ),
    "yolov3": Published(
        107, 62_001_757, 61_949_149,
        heads={81: (255, 13, 13), 93: (255, 26, 26), 105: (255, 52, 52)},
        inner={4: (64, 208, 208), 36: (256, 52, 52), 61: (512, 26, 26), 86: (768, 26, 26)},
    ),
    "yolov3-spp": Published(
        114, 63_052_381, 62_998_749,
        heads={88: (255, 19, 19), 100: (255, 38, 38), 112: (255, 76, 76)},
        inner={36: (256, 76, 76), 74: (1024, 19, 19), 83: (2048, 19, 19), 105: (384, 76, 76)},
    ),
    "yolov3-tiny": Published(
        24, 8_858_734, 8_852_366,
        heads={15: (255, 13, 13), 22: (255, 26, 26)},
        inner={8: (256, 26, 26), 11: (512, 13, 13), 20: (384, 26, 26)},
    ),
    "yolov4": Published(
        162, 64_429_405, 64_363_101,
        heads={138: (255, 76, 76), 149: (255, 38, 38), 160: (255, 19, 19)},
        inner={10: (64, 304, 304), 54: (256, 76, 76), 85: (512, 38, 38), 113: (2048, 19, 19)},
    ),
    "yolov4-tiny": Published(
        38, 6_062_814, 6_056_606,
        heads={29: (255, 13, 13), 36: (255, 26, 26)},
        inner={3: (32, 104, 104), 8: (128, 104, 104), 23: (256, 26, 26), 34: (384, 26, 26)},
    ),
    "yolov4-csp": Published(
        175, 52_986_205, 52_921_437,
        heads={143: (255, 64, 64), 158: (255, 32, 32), 173: (255, 16, 16)},
        inner={4: (64, 256, 256), 48: (256, 64, 64), 109: (2048, 16, 16), 132: (256, 64, 64)},
    ),
    "yolov7-tiny": Published(
        99, 6_241_885, 6_227_101,
        heads={89: (255, 52, 52), 93: (255, 26, 26), 97: (255, 13, 13)},
        inner={7: (128, 104, 104), 24: (256, 26, 26), 41: (1024, 13, 13), 68: (64, 52, 52)},
    ),
    "yolo-fastest-1.1": Published(
        131, 346_062, 332_798,
        heads={120: (255, 10, 10), 129: (255, 20, 20)},
        inner={0: (8, 160, 160), 80: (24, 20, 20), 114: (192, 10, 10), 124: (120, 20, 20)},
    ),
    "csresnext50-panet-spp": Published(
        138, 57_030_845, 56_942_525,
        heads={114: (255, 64, 64), 125: (255, 32, 32), 136: (255, 16, 16)},
        inner={1: (64, 128, 128), 8: (128, 128, 128), 65: (1024, 32, 32), 80: (2048, 16, 16)},
    ),
    "enet-coco": Published(
        146, 4_808_270, 4_770_414,
        heads={135: (255, 13, 13), 144: (255, 26, 26)},
        inner={3: (32, 1, 1), 6: (32, 208, 208), 90: (576, 26, 26), 140: (128, 26, 26)},
    ),
    "darknet53": Published(
        78, 41_645_640, 41_609_928,
        heads={76: (1000, 1, 1)},
        inner={0: (32, 256, 256), 74: (1024, 8, 8), 75: (1024, 1, 1)},
    ),
    "resnet18": Published(
        35, 11_699_112, 11_689_512,
        heads={33: (1000, 1, 1)},
        inner={0: (64, 112, 112), 1: (64, 56, 56), 12: (128, 28, 28), 31: (512, 7, 7)},
    ),
    "resnet34": Published(
        59, 21_814_696, 21_797_672,
        heads={57: (1000, 1, 1)},
        inner={1: (64, 56, 56), 24: (128, 28, 28), 44: (256, 14, 14), 55: (512, 7, 7)},
    ),
    "resnet50": Published(
        77, 25_610_152, 25_557_032,
        heads={75: (1000, 1, 1)},
        inner={1: (64, 56, 56), 33: (512, 28, 28), 59: (1024, 14, 14), 74: (2048, 1, 1)},
    ),
    "vgg16": Published(
        24, 138_357_544, 138_357_544,
        heads={22: (1000, 1, 1)},
        inner={2: (64, 112, 112), 17: (512, 7, 7), 18: (4096, 1, 1), 20: (4096, 1, 1)},
    ),
    "vgg11-cifar10": Published(
        15, 9_233_866, 9_228_362,
        heads={13: (10, 1, 1)},
        inner={0: (64, 32, 32), 5: (256, 8, 8), 11: (512, 2, 2), 12: (512, 1, 1)},
    ),
    "vgg13-cifar10": Published(
        17, 9_418_954, 9_413_066,
        heads={15: (10, 1, 1)},
        inner={1: (64, 32, 32), 7: (256, 8, 8), 13: (512, 2, 2), 14: (512, 1, 1)},
    ),
    "vgg16-cifar10": Published(
        20, 14_732_490, 14_724_042,
        heads={18: (10, 1, 1)},
        inner={1: (64, 32, 32), 8: (256, 8, 8), 16: (512, 2, 2), 17: (512, 1, 1)},
    ),
    "vgg19-cifar10": Published(
        23, 20_046_026, 20_035_018,
        heads={21: (10, 1, 1)},
        inner={1: (64, 32, 32), 9: (256, 8, 8), 19: (512, 2, 2), 20: (512, 1, 1)},
    ),
    "lenet-300-100": Published(
        4, 266_610, 266_610,
        heads={2: (10, 1, 1)},
        inner={0: (300, 1, 1), 1: (100, 1, 1)},
    ),
    "lenet-5": Published(
        7, 431_080, 431_080,
        heads={5: (10, 1, 1)},
        inner={0: (20, 24, 24), 1: (20, 12, 12), 2: (50, 8, 8), 3: (50, 4, 4), 4: (500, 1, 1)},
    ),
    # the parameters of amdegroot's SSD300 for VOC; what enters [ssd] is all of loc, then of conf
    "ssd300-vgg16-voc": Published(
        54, 26_285_486, 26_285_486, heads=SSD300,
        inner={13: (512, 19, 19), 18: (1024, 19, 19), 21: (512, 10, 10), 29: (512, 38, 38)},
    ),
    "ssd300-vgg16-bn-voc": Published(
        54, 26_310_062, 26_293_678, heads=SSD300,
        inner={13: (512, 19, 19), 18: (1024, 19, 19), 21: (512, 10, 10), 29: (512, 38, 38)},
    ),
    "ssd-lite": Published(
        48, 1_924_744, 1_920_904,
        heads={
            28: (16, 24, 24), 32: (24, 12, 12), 36: (24, 6, 6), 40: (16, 3, 3), 44: (16, 1, 1),
            30: (84, 24, 24), 34: (126, 12, 12), 38: (126, 6, 6), 42: (84, 3, 3), 46: (84, 1, 1),
        },
        inner={4: (32, 48, 48), 11: (64, 24, 24), 18: (128, 12, 12), 22: (192, 6, 6)},
    ),
    "ssd-fastest": Published(
        160, 399_976, 384_552,
        heads={
            136: (16, 40, 40), 141: (24, 20, 20), 146: (24, 10, 10), 151: (16, 5, 5),
            156: (16, 3, 3), 138: (84, 40, 40), 143: (126, 20, 20), 148: (126, 10, 10),
            153: (84, 5, 5), 158: (84, 3, 3),
        },
        inner={58: (96, 40, 40), 119: (96, 10, 10), 128: (120, 20, 20), 133: (128, 3, 3)},
    ),
    "digits": Published(
        29, 292_522, 290_666,
        heads={19: (45, 10, 10), 27: (45, 20, 20)},
        inner={4: (32, 40, 40), 9: (64, 20, 20), 16: (96, 10, 10), 24: (96, 20, 20)},
    ),
}  # fmt: skip
OUTPUTS = {"yolo", "region", "softmax"}
BAYESIAN = "-bayesian"
FILES = sorted(path for path in FOLDER.glob("*.cfg") if not path.stem.endswith(BAYESIAN))
BAYESIAN_FILES = sorted(FOLDER.glob(f"*{BAYESIAN}.cfg"))


def sections(path: Path) -> list[tuple[str, list[str]]]:
    """(type, keys) of every section, read without the project's parser."""
    blocks = re.split(r"^\[(\w+)\]$", path.read_text(), flags=re.MULTILINE)[1:]
    pairs = zip(blocks[::2], blocks[1::2], strict=True)
    return [(kind, re.findall(r"^(\w+)=", body, re.MULTILINE)) for kind, body in pairs]


def test_every_file_is_in_the_table():
    assert {path.stem for path in FILES} == set(MODELS)


@pytest.mark.parametrize("path", BAYESIAN_FILES, ids=lambda path: path.stem)
def test_bayesian_files_are_converted_plain_ones(path):
    plain = Cfg.load(path.with_name(path.name.replace(BAYESIAN, "")))
    made = with_posteriors(plain)
    assert made.to_bytes() == path.read_bytes()
    network = Network(made)
    assert network.plain().cfg.to_bytes() == plain.to_bytes()
    heads = Network(plain).head_inputs if "ssd" in path.stem else ()  # classes have priors, too
    counts = [section.type.startswith("bayesian_") for section in made.layers]
    weighted = [
        section.type in ("convolutional", "connected") and section.index not in heads
        for section in plain.layers
    ]
    assert counts == weighted
    assert len(BAYESIAN_FILES) == 7
    assert "ssd" not in path.stem or sum(counts) == 23


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return Network(Cfg.load(FOLDER / f"{request.param}.cfg")), MODELS[request.param]


def test_counts(model):
    net, published = model
    counted = len(net.layers), net.count_floats(), net.count_parameters()
    assert counted == (published.layers, published.floats, published.parameters)


def test_shapes(model):
    net, published = model
    expected = published.heads | published.inner
    assert {i: astuple(net.layers[i].out_shape) for i in expected} == expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_head_inputs_are_all_listed(path):
    kinds = [kind for kind, _ in sections(path)[1:]]
    found = [i - 1 for i, kind in enumerate(kinds) if kind in OUTPUTS]
    for numbers in re.findall(r"^(?:loc|conf)=(.*)$", path.read_text(), re.MULTILINE):
        found += map(int, numbers.split(","))
    assert found == list(MODELS[path.stem].heads)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_header_states_the_parameters(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(f": {MODELS[path.stem].parameters:,} parameters")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_layout_suits_the_strictest_reader(path):
    data = path.read_bytes()
    assert b"\r" not in data
    assert data.endswith(b"\n")
    for line in data.decode("ascii").splitlines():
        assert re.fullmatch(r"(#.*|\[\w+\]|\w+=[^\s=]+|)", line), line


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_keys_are_unique_and_activations_written(path):
    for kind, keys in sections(path):
        assert len(keys) == len(set(keys)), (kind, keys)
        if kind in {"convolutional", "connected", "shortcut"}:
            assert "activation" in keys
