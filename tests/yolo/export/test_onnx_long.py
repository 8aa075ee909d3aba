"""Every cfg and every trained model as ONNX, in onnxruntime and in OpenCV 5; takes minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from trained_models import NAMES, trained_model

from pruning.proof.exported import prove_onnx
from yolo.detections import gives_boxes
from yolo.export.onnx import exported
from yolo.export.options import BOXES, DECODED, LAYOUTS, NMS, RAW, OnnxOptions
from yolo.inference.onnx import InOnnxRuntime
from yolo.models.load import load_model
from yolo.models.randomize import noise_image
from yolo.models.weights import Header

pytestmark = pytest.mark.long
for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed")

CFGS = sorted(path.stem for path in (ROOT / "cfg").glob("*.cfg"))
# prints the outputs of an ONNX file as JSON, with the version of OpenCV
IN_OPENCV = """
import json, sys
import cv2, numpy as np
net = cv2.dnn.readNetFromONNX(sys.argv[1])
net.setInput(np.load(sys.argv[2]))
names = net.getUnconnectedOutLayersNames()
outputs = dict(zip(names, net.forward(list(names))))
np.savez(sys.argv[3], **outputs)
print(json.dumps(cv2.__version__))
"""


@pytest.mark.parametrize("boxes", BOXES)
@pytest.mark.parametrize("name", CFGS)
def test_every_cfg(name: str, boxes: str) -> None:
    network, header = load_model(str(ROOT / "cfg" / f"{name}.cfg"), "random")
    if boxes == NMS and not gives_boxes(network):
        pytest.skip("a classifier has no NMS")
    options = OnnxOptions(boxes, thresh=0.25)
    content = exported(network, header, options).SerializeToString()
    assert prove_onnx(network, options, {".onnx": content}).value is not None


@pytest.mark.parametrize("options", [OnnxOptions(RAW), *(OnnxOptions(DECODED, n) for n in LAYOUTS)])
@pytest.mark.parametrize("name", NAMES)
def test_every_trained_model(name: str, options: OnnxOptions) -> None:
    cfg, weights = trained_model(name)
    network, header = load_model(str(cfg), str(weights))
    content = exported(network, header, options).SerializeToString()
    difference = prove_onnx(network, options, {".onnx": content}).value
    assert difference is not None
    assert difference < 1e-5


@pytest.fixture(scope="module")
def opencv5(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with OpenCV 5: OPENCV5, or one that pip can make."""
    if "OPENCV5" in os.environ:
        return os.environ["OPENCV5"]
    folder = tmp_path_factory.mktemp("opencv5")
    python = str(folder / "bin" / "python")
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [python, "-m", "pip", "install", "-q", "opencv-python>=5,<6", "numpy"],
    ):
        if subprocess.run(command, capture_output=True, timeout=600, check=False).returncode:
            pytest.skip("pip can't install OpenCV 5; OPENCV5 may name a Python that has it")
    return python


@pytest.mark.parametrize("boxes", [RAW, DECODED])
@pytest.mark.parametrize("name", ["digits", "yolov4-tiny", "ssd-lite", "resnet18", "enet-coco"])
def test_opencv_5(name: str, boxes: str, opencv5: str, tmp_path: Path) -> None:
    network, _ = load_model(str(ROOT / "cfg" / f"{name}.cfg"), "random")
    content = exported(network, Header(), OnnxOptions(boxes)).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(content)
    x = noise_image(network).numpy()
    np.save(tmp_path / "x.npy", x)
    arguments = [str(tmp_path / name) for name in ("m.onnx", "x.npy", "out.npz")]
    done = subprocess.run([opencv5, "-c", IN_OPENCV, *arguments], capture_output=True, check=True)
    assert json.loads(done.stdout).startswith("5.")
    expected = InOnnxRuntime(content, "m.onnx")(x)
    with np.load(tmp_path / "out.npz") as outputs:
        assert set(outputs) == set(expected)
        for key, array in expected.items():
            np.testing.assert_allclose(outputs[key], array, rtol=1e-3, atol=1e-4)
