"""The score of an ONNX file in onnxruntime: its mAP, or top-1, on labeled images."""

from __future__ import annotations

from pruning.measure.metric import validation_images
from yolo.datasets import sources
from yolo.evaluation.evaluate import check_classes, evaluate
from yolo.inference.onnx import InOnnxRuntime, runner_of_content
from yolo.network import Network


class FileScore:
    """mAP or top-1 of files of a network on the validation images of a .data or .yaml file.

    Raises DarknetError for a file that is wrong, or that the network isn't made for.
    """

    def __init__(self, network: Network, path: str, workers: int = 2) -> None:
        data = sources.load(path)
        check_classes(network, data)
        self._images = validation_images(data, network.cfg, workers)
        self._path = network.cfg.path

    def __call__(self, content: bytes) -> float:
        """The score of the content of an .onnx file."""
        runner = runner_of_content(content, self._path, InOnnxRuntime)
        return evaluate(runner.network, self._images, runner=runner).score
