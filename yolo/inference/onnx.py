"""ONNX files computed by onnxruntime or OpenCV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolo.cfg import Cfg
from yolo.datasets.images import Placement
from yolo.detections import Candidates, Detections
from yolo.errors import DarknetError
from yolo.export.onnx import exported
from yolo.export.onnx_graph import needed
from yolo.export.onnx_metadata import Metadata, properties_of
from yolo.export.onnx_outputs import Raw, Scores
from yolo.export.options import LAYOUTS, NMS, RAW, OnnxOptions
from yolo.files import read_bytes
from yolo.inference.runner import Runner, of_inputs
from yolo.models.weights import Header
from yolo.network import Network
from yolo.nms import Nms

Arrays = dict[str, NDArray[np.float32]]


class OnnxSession(Protocol):
    """An engine with an ONNX file."""

    def __call__(self, x: NDArray[np.float32]) -> Arrays:
        """(N, C, H, W) → the outputs of the graph by name; raises DarknetError."""
        ...


Engine = Callable[[bytes, str], OnnxSession]  # of a file's content and its name


def load_runner(path: str, engine: Engine) -> OnnxRunner:
    """A file of ours in an engine; raises DarknetError for another one."""
    return runner_of_content(read_bytes(path, "ONNX file", DarknetError), path, engine)


def runner_of_content(content: bytes, path: str, engine: Engine) -> OnnxRunner:
    """The content of a file of ours in an engine; raises DarknetError for another one."""
    metadata = Metadata.read(path, _properties(content, path))
    network = Network(Cfg(metadata.cfg.encode(), path))
    return OnnxRunner(network, metadata, engine(content, path))


def runner_of(network: Network, engine: Engine) -> OnnxRunner:
    """A network in an engine, exported for it in memory; raises DarknetError."""
    model = exported(network, Header(), OnnxOptions(boxes=RAW, batch=None))
    path = network.cfg.path
    metadata = Metadata.read(path, properties_of(model))
    return OnnxRunner(network, metadata, engine(model.SerializeToString(), path))


def in_onnxruntime(network: Network) -> OnnxRunner:
    """A network in onnxruntime; raises DarknetError."""
    return runner_of(network, InOnnxRuntime)


def file_in_onnxruntime(path: str) -> OnnxRunner:
    """An .onnx file in onnxruntime; raises DarknetError."""
    return load_runner(path, InOnnxRuntime)


def file_in_opencv(path: str) -> OnnxRunner:
    """An .onnx file in OpenCV; raises DarknetError."""
    return load_runner(path, InOpenCV)


def _properties(content: bytes, path: str) -> dict[str, str]:
    onnx = needed("onnx")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # of protobuf, which is no dependency of ours
        raise DarknetError(f"{path}: is not an ONNX file") from error
    return properties_of(model)


class OnnxRunner(Runner):
    """The graph of an ONNX file of ours in an engine; what the graph leaves undone, torch does.

    `network` has no tensors: it only says what the outputs mean.
    """

    def __init__(self, network: Network, metadata: Metadata, session: OnnxSession) -> None:
        super().__init__(network)
        self.metadata, self.session, self.names = metadata, session, metadata.names

    def outputs(self, x: Tensor) -> dict[int, Tensor]:
        """Only of a file with raw outputs."""
        arrays = self.arrays(x)
        names = Raw(self.network).names
        return of_inputs(
            self.network,
            {i: arrays[n] for i, n in zip(self.network.head_inputs, names, strict=True)},
        )

    def arrays(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) → the outputs of the graph, by name"""
        batch = self.metadata.batch or len(x)
        parts = [self._part(part.numpy(), batch) for part in x.cpu().split(batch)]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {name: torch.from_numpy(array) for name, array in joined.items()}

    def _part(self, x: NDArray[np.float32], batch: int) -> Arrays:
        """The outputs for at most as many images as the file takes at once."""
        missing = batch - len(x)
        outputs = self.session(np.pad(x, ((0, missing), (0, 0), (0, 0), (0, 0))))
        return {name: array[: len(x)] if missing else array for name, array in outputs.items()}

    def detect(
        self,
        x: Tensor,
        thresh: float,
        nms: Nms | None,
        placements: Sequence[Placement] | None = None,
    ) -> list[Detections]:
        """See Runner; what NMS in the graph has left stays as it is."""
        if self.metadata.boxes == NMS:
            return self._ready(x, thresh, placements)
        return super().detect(x, thresh, nms, placements)

    def candidates(self, x: Tensor, thresh: float) -> list[Candidates]:
        """See Runner; not of a file with NMS."""
        if self.metadata.boxes == RAW:
            return super().candidates(x, thresh)
        layout = LAYOUTS[self.metadata.layout].load()()
        images: list[Candidates] = layout.read(self.network, self.arrays(x), thresh)
        return images

    def scores(self, x: Tensor) -> Tensor:
        if self.metadata.boxes == RAW:
            return super().scores(x)
        return self.arrays(x)[Scores.names[0]]

    def _ready(
        self, x: Tensor, thresh: float, placements: Sequence[Placement] | None
    ) -> list[Detections]:
        """The detections that the graph gives; raises DarknetError below its own threshold."""
        least = self.metadata.thresh
        if thresh < least:
            raise DarknetError(
                f"{self.network.cfg.path}: holds no detections below a confidence of {least:g}, "
                f"{thresh:g} is needed: export it with --thresh {thresh:g} or --boxes decoded"
            )
        detections = []
        for number, image in enumerate(x):
            (array,) = self.session(_repeated(image, self.metadata.batch)).values()
            rows = torch.from_numpy(array[(array[:, 0] == 0) & (array[:, 2] > thresh)])
            boxes = Candidates(rows[:, 3:], rows[:, 2:3])
            placed = boxes.placed(placements[number]) if placements else boxes
            detections.append(Detections(placed.boxes, rows[:, 1].long(), rows[:, 2]))
        return detections


def _repeated(image: Tensor, batch: int | None) -> NDArray[np.float32]:
    """One image (C, H, W) as often as the file wants some at once."""
    return np.repeat(image.cpu().numpy()[None], batch or 1, 0)


class InOnnxRuntime:
    """A file in onnxruntime on the CPU."""

    def __init__(self, content: bytes, path: str, threads: int = 0) -> None:
        runtime = needed("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        self.path = path
        try:
            providers = ["CPUExecutionProvider"]
            self.session = runtime.InferenceSession(content, options, providers=providers)
        except Exception as error:  # its errors have no common class
            raise self._error(error) from error
        self.names = [output.name for output in self.session.get_outputs()]
        # none where the outputs depend on no image, as those of [implicit] alone
        self.inputs = [entry.name for entry in self.session.get_inputs()]

    def __call__(self, x: NDArray[np.float32]) -> Arrays:
        try:
            outputs = self.session.run(self.names, dict.fromkeys(self.inputs, x))
        except Exception as error:
            raise self._error(error) from error
        return dict(zip(self.names, outputs, strict=True))

    def _error(self, error: Exception) -> DarknetError:
        reason = " ".join(str(error).split())[:200]
        return DarknetError(f"{self.path}: onnxruntime can't run it: {reason}")


class InOpenCV:
    """A file in OpenCV's DNN module."""

    def __init__(self, content: bytes, path: str) -> None:
        import cv2

        self.path = path
        try:
            self.net = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
        except cv2.error as error:
            raise self._error(error) from error
        self.names = list(self.net.getUnconnectedOutLayersNames())

    def __call__(self, x: NDArray[np.float32]) -> Arrays:
        import cv2

        try:
            self.net.setInput(x)
            outputs = self.net.forward(self.names)
        except cv2.error as error:
            raise self._error(error) from error
        return dict(zip(self.names, map(np.asarray, outputs), strict=True))

    def _error(self, error: Exception) -> DarknetError:
        reason = " ".join(str(getattr(error, "err", error)).split())[:200]
        return DarknetError(f"{self.path}: OpenCV can't run it: {reason}")
