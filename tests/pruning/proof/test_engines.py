"""Our forward pass against engines that we did not write, and what these can't run."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from cfgs import HEAD, connected, conv, maxpool, net, plain, region, route, shortcut, upsample
from networks import build
from pruned_files import check_files, ours, written
from trained_models import NAMES, trained_model

from pruning.proof.engines import darknet
from pruning.proof.engines.base import Engine, EngineError
from pruning.proof.engines.darknet import Darknet, find_darknet
from pruning.proof.engines.opencv import OpenCV
from pruning.proof.verify import NOT_RUN, Difference, Proofs
from pruning.registry import ENGINES, PROOFS, TORCH
from yolo.cfg import Cfg
from yolo.models.weights import load_weights
from yolo.network import Network

NET = net(24, 16, batch=64, subdivisions=8)
REORG = "[reorg]\nstride=2\n"  # hank-ai's Darknet lacks it
DETECTOR = (
    NET
    + "".join(conv(8, activation=a) for a in ("leaky", "relu", "logistic", "tanh", "linear"))
    + conv(8, groups=8, activation="relu")
    + conv(8, groups=4)
    + shortcut(-3, activation="leaky")
    + maxpool()
    + "[dropout]\nprobability=.5\n"
    + maxpool(2, 1)
    + maxpool(5, 1)
    + HEAD
    + route(-3)
    + upsample()
    + route(-1, 0)
    + REORG
    + HEAD
)
SMALL = {
    "detector": DETECTOR,
    "classifier": NET
    + conv(8)
    + "[avgpool]\n"
    + connected(16)
    + "[softmax]\ngroups=1\n[cost]\ntype=sse\n",
    "region": NET + plain(12, 3, batch_normalize=1) + region(coords=4, softmax=1),
    "connected": NET + conv(8) + maxpool() + connected(16),
}


LIBRARIES = {"AlexeyAB": "ALEXEY_LIB", "hank-ai": "HANK_LIB"}


@pytest.fixture(params=["OpenCV", "Debian", *LIBRARIES])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "OpenCV":
        pytest.importorskip("cv2", reason="OpenCV is not installed")
        return OpenCV()
    if request.param == "Debian":
        return debian()
    variable = LIBRARIES[request.param]
    if variable not in os.environ:
        pytest.skip(f"needs a build of {request.param}'s Darknet: {variable}")
    return Darknet(os.environ[variable])


@pytest.fixture
def opencv() -> OpenCV:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    return OpenCV()


def debian() -> Darknet:
    if not darknet.DEBIAN.is_file():
        pytest.skip("Debian's package darknet is not installed")
    return Darknet(str(darknet.DEBIAN))


def made(text: str) -> tuple[Cfg, Network]:
    network = build(text)
    return network.cfg, network


def picture(network: Network) -> np.ndarray:
    image = network.image
    shape = (1, image.channels, image.height, image.width)
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@torch.no_grad()
def differences(engine: Engine, cfg: Cfg, network: Network, layers: list[int]) -> dict[int, float]:
    """Relative L2 distance of each layer between an engine and us."""
    x = picture(network)
    ours = network(torch.from_numpy(x), collect=layers)
    theirs = engine.run(cfg, network, x, layers)
    assert {i: a.shape for i, a in theirs.items()} == {i: tuple(t.shape) for i, t in ours.items()}
    distance = {i: np.linalg.norm(theirs[i] - ours[i].numpy()) for i in layers}
    return {i: float(distance[i] / np.linalg.norm(ours[i].numpy())) for i in layers}


def layers_of(network: Network) -> list[int]:
    """All sections but the heads, whose outputs every engine orders in its own way."""
    types = ("yolo", "region", "detection", "cost")
    return [i for i, layer in enumerate(network.layers) if layer.section.type not in types]


def refusal(engine: Engine, text: str) -> str:
    cfg, network = made(text)
    with pytest.raises(EngineError) as caught:
        engine.run(cfg, network, picture(network), layers_of(network))
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_real_models_are_reproduced(engine: Engine, name: str) -> None:
    path, weights = trained_model(name)
    cfg = Cfg.load(path).edited({-1: {"width": 96, "height": 96}})
    network = Network(cfg)
    load_weights(network, weights)
    found = differences(engine, cfg.strict(), network, network.head_inputs)
    assert max(found.values()) < 5e-6, found


@pytest.mark.parametrize("name", SMALL)
def test_every_section_is_reproduced(engine: Engine, name: str) -> None:
    text = SMALL[name]
    cfg, network = made(text.replace(REORG, "") if engine.name == "hank-ai's Darknet" else text)
    found = differences(engine, cfg, network, layers_of(network))
    assert max(found.values()) < 5e-6, found


@pytest.mark.parametrize(
    ("name", "strategy", "amount"),
    [
        ("yolo-fastest-1.1", "shortcut", {}),
        ("resnet18", "slim", {}),
        ("resnet18", "layer", {"percent": None, "blocks": 2}),
        ("yolov7-tiny", "regular", {}),
        ("yolov4-tiny", "normal", {}),
    ],
)
def test_pruned_files_run_in_darknet_5(
    name: str, strategy: str, amount: dict[str, object], tmp_path: Path
) -> None:
    if "HANK_LIB" not in os.environ:
        pytest.skip("needs a build of hank-ai's Darknet: HANK_LIB")
    folder = tmp_path / "pruned"
    result = written(ours(name, 64, tmp_path).job(strategy, **amount), folder)
    network = check_files(result, folder)
    engine = Darknet(os.environ["HANK_LIB"])
    found = differences(engine, network.cfg, network, network.head_inputs)
    assert max(found.values()) < 5e-6, found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (NET + conv(8) + REORG, "doesn't know the section reorg"),
        (NET + conv(8) + "nobody_knows_it=1\n", "can't run it: config line #"),
        (NET + "decay=4e-5\n" + conv(8), 'can\'t run it: key "decay" on line #'),
    ],
)
def test_what_darknet_5_cannot_run(text: str, reason: str) -> None:
    if "HANK_LIB" not in os.environ:
        pytest.skip("needs a build of hank-ai's Darknet: HANK_LIB")
    message = refusal(Darknet(os.environ["HANK_LIB"]), text)
    assert message.startswith(f"hank-ai's Darknet {reason}")


def test_keys_with_a_blank_are_read(engine: Engine) -> None:
    """As those that are hidden from Darknet 5."""
    if engine.name == "hank-ai's Darknet":
        pytest.skip("they are hidden from it")
    cfg, network = made(NET + conv(8))
    blank = cfg.to_bytes().replace(b"batch_n", b"batch _n").replace(b"filters", b"f ilters")
    assert max(differences(engine, Cfg(blank), network, [0]).values()) < 5e-6


def test_dead_channels_are_reproduced(engine: Engine) -> None:
    """At variance 0 an epsilon decides everything: 316, 1000 or 1e6."""
    cfg, network = made(NET + conv(8) + conv(8, activation="linear"))
    state = network.state()
    for tensors in state.values():
        tensors["variance"][::2] = 0
    network.store(state)
    errors = differences(engine, cfg, network, [0, 1])
    assert max(errors.values()) < 5e-6, errors


def test_own_tensors_are_left_alone(engine: Engine) -> None:
    cfg, network = made(NET + conv(8))
    before = network.state()[0]["variance"].clone()
    engine.run(cfg, network, picture(network), [0])
    assert torch.equal(network.state()[0]["variance"], before)


def test_detection_head_is_no_obstacle_for_darknet() -> None:
    detection = "[detection]\nclasses=1\ncoords=4\nside=1\nnum=3\nsoftmax=0\n"
    cfg, network = made(NET + conv(8) + connected(16) + detection)
    errors = differences(debian(), cfg, network, network.head_inputs)
    assert list(errors) == [1]
    assert errors[1] < 5e-6


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        (conv(8, activation="relu6"), "can't read it: Unsupported activation: relu6"),
        ("[local]\nsize=1\nfilters=4\nactivation=linear\n", "Unknown layer type: local"),
        (conv(8, groups=0), "crashes on it (SIGFPE)"),
        ("[maxpool]\n", "computes an output of 8x8x12, not of 8x16x24: x.cfg:13: [maxpool]"),
        ("[crop]\ncrop_height=8\ncrop_width=8\n" + conv(8), "can't run it: its check fails"),
    ],
)
def test_what_opencv_cannot_run(
    opencv: OpenCV, sections: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    message = refusal(opencv, NET + conv(8) + sections)
    assert message.startswith("OpenCV ")
    assert reason in message
    assert capfd.readouterr() == ("", "")


SQUEEZE = "[avgpool]\n" + conv(8, 1, activation="logistic") + "[scale_channels]\nfrom=-3\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (NET + conv(8, activation="mish"), "doesn't know the activation mish"),
        (NET + conv(8) + SQUEEZE, "doesn't know the section [scale_channels]"),
        (NET + conv(8, groups=0), "crashes on it (SIGFPE)"),
        (
            NET + "policy=steps\n" + conv(8),
            "can't run it: STEPS policy must have steps and scales in cfg file",
        ),
    ],
)
def test_what_debians_darknet_cannot_run(
    text: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert refusal(debian(), text) == f"pjreddie's Darknet {reason}"
    assert capfd.readouterr() == ("", "")


def test_nothing_is_left_behind(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cfg, network = made(NET + conv(8))
    engine.run(cfg, network, picture(network), [0])
    assert list(tmp_path.iterdir()) == []


def test_no_layers_need_no_engine(engine: Engine) -> None:
    cfg, network = made(NET + conv(8))
    assert engine.run(cfg, network, picture(network), []) == {}


def test_an_input_of_another_size_is_refused(engine: Engine) -> None:
    cfg, network = made(NET + conv(8))
    with pytest.raises(ValueError, match="takes 3x16x24"):
        engine.run(cfg, network, np.zeros((1, 3, 24, 16), np.float32), [0])


def test_a_run_has_a_time_limit(opencv: OpenCV) -> None:
    opencv.limit = 0.01
    assert refusal(opencv, NET + conv(8)) == "OpenCV needs more than 0.01 s"


def test_latency(opencv: OpenCV) -> None:
    cfg, network = made(NET + conv(8))
    assert 0 < opencv.latency(cfg, network, runs=3) < 1000


def test_latency_of_what_opencv_cannot_read(opencv: OpenCV) -> None:
    cfg, network = made(NET + conv(8, activation="relu6"))
    with pytest.raises(EngineError, match="Unsupported activation: relu6"):
        opencv.latency(cfg, network, runs=1)


def test_missing_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match="OpenCV is not installed"):
        OpenCV()


def test_missing_library(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no such file, expected a libdarknet\.so"):
        Darknet(str(tmp_path / "libdarknet.so"))


def test_garbage_is_not_a_library(tmp_path: Path) -> None:
    path = tmp_path / "libdarknet.so"
    path.write_bytes(np.random.default_rng(0).bytes(4096))
    with pytest.raises(EngineError, match="is not a Darknet library"):
        Darknet(str(path))


@pytest.mark.parametrize("symbol", [b"network_predict", b"network_predict_ptr"])
def test_a_library_that_cannot_be_loaded(tmp_path: Path, symbol: bytes) -> None:
    path = tmp_path / "libdarknet.so"
    path.write_bytes(b"\x7fELF load_network " + symbol)
    assert "Darknet can't be loaded: " in refusal(Darknet(str(path)), NET + conv(8))


@pytest.mark.parametrize("folder", ["bin", "lib/darknet", "lib"])
def test_the_library_of_a_program(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, library = tmp_path / "bin" / "darknet", tmp_path / folder / "libdarknet.so"
    for path in (program, library):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"detector")
        path.chmod(0o755)
    assert find_darknet(str(program)) == library
    monkeypatch.setenv("PATH", str(program.parent))
    assert find_darknet() == library


def test_a_program_without_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "darknet"
    program.write_bytes(b"detector")
    with pytest.raises(EngineError, match="name the library instead"):
        find_darknet(str(program))
    program.write_bytes(b"ls")
    with pytest.raises(EngineError, match="neither a Darknet library nor a Darknet program"):
        find_darknet(str(program))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(darknet, "DEBIAN", tmp_path / "libdarknet.so")
    with pytest.raises(EngineError, match="no Darknet library found"):
        find_darknet()


# Which engines prove

DEFAULT = {name for name, entry in ENGINES.items() if not entry.optional}


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without OpenCV and without a Darknet library."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(darknet, "DEBIAN", tmp_path / "libdarknet.so")


@pytest.mark.usefixtures("nothing_installed")
def test_missing_engines_are_left_out_and_say_why() -> None:
    found = Proofs().engines()
    assert found.keys() == DEFAULT
    for name, engine in found.items():
        assert isinstance(engine, Difference)
        assert engine.value is None
        assert "not installed" in engine.note or "no Darknet library found" in engine.note, name


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("name", ENGINES)
def test_a_missing_engine_that_is_asked_for_by_name_is_an_error(name: str) -> None:
    with pytest.raises(EngineError, match=r"is not installed|no Darknet library found"):
        Proofs((TORCH, name)).engines()


@pytest.mark.usefixtures("nothing_installed")
def test_a_missing_library_that_is_named_is_an_error() -> None:
    with pytest.raises(EngineError, match=r"^nowhere/libdarknet\.so: no such file"):
        Proofs(None, {"darknet": "nowhere/libdarknet.so"}).engines()


@pytest.mark.usefixtures("nothing_installed")
def test_an_engine_that_is_not_asked_for_is_not_looked_for() -> None:
    paths = {"darknet": "nowhere/libdarknet.so"}
    for names in ((), (TORCH,)):
        assert Proofs(names, paths).engines() == dict.fromkeys(DEFAULT, NOT_RUN)
    assert all(Proofs().makes(name) for name in PROOFS)
