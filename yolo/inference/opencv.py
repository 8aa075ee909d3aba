"""Networks computed by OpenCV's DNN module."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from yolo.errors import DarknetError
from yolo.export.assembly import Portable
from yolo.export.split import computed, split
from yolo.inference.runner import Runner, of_inputs
from yolo.layers.activations import ACTIVATIONS
from yolo.layers.written import Floats
from yolo.models.weights import Header, weights_writer
from yolo.network import Network


class OpenCVNetwork(Runner):
    """Computes the inputs of the heads with OpenCV; the heads themselves are ours.

    So is the norm of [l2norm], between two networks of OpenCV. OpenCV has another epsilon in BN.
    Raises DarknetError where it can't run the network.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.first, self.tails = split(network)
        self.wanted = [*network.head_inputs, *(tail.source for tail in self.tails)]
        forms = [self.first, *(tail.portable for tail in self.tails)]
        self.parts = {id(form): _Part(form, self.wanted) for form in forms}

    def outputs(self, x: Tensor) -> dict[int, Tensor]:

        def compute(form: Portable, x: Floats, wanted: Sequence[int]) -> dict[int, Floats]:
            return self.parts[id(form)](x)

        arrays = computed(self.first, self.tails, x.cpu().numpy(), compute, self.wanted)
        return of_inputs(self.network, {i: torch.from_numpy(a) for i, a in arrays.items()})


class _Part:
    """A network in OpenCV; gives the outputs of those `wanted` original sections that it has."""

    def __init__(self, form: Portable, wanted: Sequence[int]) -> None:
        network = form.network
        self.path = network.cfg.path
        weights = io.BytesIO()
        weights_writer(network, Header())(weights)
        if not hasattr(cv2.dnn, "readNetFromDarknet"):
            raise DarknetError(
                f"OpenCV {cv2.__version__} reads no Darknet files: pip install opencv-python<5"
            )
        try:
            cfg = np.frombuffer(network.cfg.strict().to_bytes(), np.uint8)
            self.net = cv2.dnn.readNetFromDarknet(cfg, np.frombuffer(weights.getvalue(), np.uint8))
            self.net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        except cv2.error as error:
            raise self._error(error) from error
        self.names = {i: self._blob(form.places[i]) for i in wanted if i in form.places}

    def __call__(self, x: Floats) -> dict[int, Floats]:
        """(N, C, H, W) → the outputs, by the original's sections"""
        try:
            self.net.setInput(x)
            blobs = self.net.forward(list(self.names.values()))
        except cv2.error as error:
            raise self._error(error) from error
        return {i: np.asarray(b) for i, b in zip(self.names, blobs, strict=True)}

    def _blob(self, index: int) -> str:
        """The last blob of a section; OpenCV gives an activation the number of the next section."""
        blob = None
        for name in self.net.getLayerNames():
            kind, _, number = name.rpartition("_")
            if number.isdigit() and int(number) - (kind in ACTIVATIONS) == index:
                blob = name
        if blob is None:
            raise DarknetError(f"{self.path}: OpenCV has no output for section {index}")
        return str(blob)

    def _error(self, error: cv2.error) -> DarknetError:
        reason = " ".join(str(getattr(error, "err", error)).split())[:100]
        return DarknetError(f"{self.path}: OpenCV can't run it: {reason}")
