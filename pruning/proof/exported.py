"""The proof of an ONNX file: its outputs in onnxruntime against those of the model in torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pruning.proof.coarse import COARSE, coarse_difference
from pruning.proof.engines.ncnn import Ncnn
from pruning.proof.verify import SINGLE, Difference, double_state, relative
from yolo.detections import Candidates, Detections, suppression
from yolo.errors import ProofError
from yolo.export.onnx import exported, outputs_of
from yolo.export.onnx_outputs import MOST
from yolo.export.options import DECODED, FLOAT, NMS, RAW, OnnxOptions
from yolo.inference.onnx import InOnnxRuntime, OnnxRunner, runner_of_content
from yolo.models.randomize import noise_image
from yolo.models.weights import Header
from yolo.network import Network

ABSOLUTE = 1e-4  # of decoded boxes and scores, relative to what is larger than 1
ROUNDING = 4.0  # times the error of torch in float32 is what another engine's may be
SAME = 1e-5  # of detections that come from the same boxes

Arrays = Mapping[int, Tensor]
Files = Mapping[str, bytes]  # contents by suffix


def prove_onnx(
    network: Network, options: OnnxOptions, files: Files, images: Tensor | None = None
) -> Difference:
    """The difference of an ONNX file from its network, on images (N, C, H, W) or on noise.

    Of raw outputs it is relative L2, of boxes and scores the largest difference, of detections
    that of the boxes that they are chosen from. Where float32 is too coarse for the limits of
    1e-5 and 1e-4, four times torch's own rounding error is allowed. Raises ProofError.
    """
    x = _noise(network, options.batch) if images is None else images
    runner = runner_of_content(files[".onnx"], network.cfg.path, InOnnxRuntime)
    if options.boxes == NMS:
        return _prove_detections(network, options, runner, x)
    actual = dict(enumerate(runner.arrays(x).values()))
    return _compared(network, options, x, actual, "onnxruntime")


def prove_ncnn(
    network: Network, options: OnnxOptions, files: Files, images: Tensor | None = None
) -> Difference:
    """The difference of ncnn's files from their network, as prove_onnx; raises EngineError, too."""
    x = _noise(network, options.batch) if images is None else images
    outputs = outputs_of(network.fused(), options)
    engine = Ncnn()
    blobs_of_images = [
        engine.blobs(network, files, image.numpy()[None], outputs.names) for image in x
    ]
    expected = _in_torch(network, options, x)
    actual = {
        i: torch.from_numpy(np.stack([blobs[name] for blobs in blobs_of_images])).reshape(
            expected[i].shape
        )
        for i, name in enumerate(outputs.names)
    }
    return _compared(network, options, x, actual, engine.name)


def _compared(
    network: Network, options: OnnxOptions, x: Tensor, actual: Arrays, engine: str
) -> Difference:
    """Difference of the outputs from torch's; raises ProofError."""
    expected = _in_torch(network, options, x)
    if options.precision != FLOAT:
        names = outputs_of(network, options).names
        pair = (dict(zip(names, t.values(), strict=True)) for t in (actual, expected))
        difference = coarse_difference(network, options, *pair)
        _check(network, difference, COARSE[options.precision], engine)
        return Difference(difference, f"in {engine}")
    measure, limit = (relative, SINGLE) if options.boxes == RAW else (_largest, ABSOLUTE)
    difference = measure(actual, expected)
    if not difference <= limit:
        exact = _in_torch(_double(network), options, x.double())
        limit = ROUNDING * measure(expected, exact)
        difference = measure(actual, exact)
    _check(network, difference, limit, engine)
    return Difference(difference, f"in {engine}")


def _check(network: Network, difference: float, limit: float, engine: str) -> None:
    if not difference <= limit:
        raise ProofError(
            f"{network.cfg.path}: the exported file differs from the model by {difference:.1e} in "
            f"{engine} (allowed {limit:.0e})"
        )


def _prove_detections(
    network: Network, options: OnnxOptions, runner: OnnxRunner, x: Tensor
) -> Difference:
    """The boxes before NMS are proven, then NMS by our own on the same boxes."""
    before = replace(options, boxes=DECODED, layout="darknet")
    content = exported(network, Header(), before).SerializeToString()
    difference = prove_onnx(network, before, {".onnx": content}, x)
    decoded = runner_of_content(content, network.cfg.path, InOnnxRuntime)
    nms = suppression(network)
    limit = None if nms.exponent is None else MOST
    detections = runner.detect(x, options.thresh, nms)
    for image, candidates in zip(detections, decoded.candidates(x, options.thresh), strict=True):
        expected = _surest(candidates, limit).suppressed(nms)
        if not _alike(image, expected):
            raise ProofError(
                f"{network.cfg.path}: the ONNX file finds {len(image)} objects, the model "
                f"{len(expected)}, or others, in the same image"
            )
    count = sum(map(len, detections))
    return Difference(difference.value, f"{difference.note}, {count} detections alike")


def _noise(network: Network, batch: int | None) -> Tensor:
    """One image of noise, two different ones where their number may vary."""
    x = noise_image(network)
    return x if batch else torch.cat((x, 1 - x))


def _in_torch(network: Network, options: OnnxOptions, x: Tensor) -> dict[int, Tensor]:
    """The outputs that the file should have, computed by torch."""
    with torch.no_grad():
        return dict(enumerate(outputs_of(network.fused(), options)(x)))


def _double(network: Network) -> Network:
    plain = network.plain()
    return Network.with_state(plain.cfg, double_state(plain.state()))


def _largest(actual: Arrays, expected: Arrays) -> float:
    """The largest difference of two numbers, relative to the one if that is larger than 1."""
    worst = 0.0
    for i, tensor in expected.items():
        apart = (actual[i].double() - tensor.double()).abs() / tensor.double().abs().clamp(min=1)
        worst = max(worst, float(apart.nan_to_num(torch.inf).max()))
    return worst


def _surest(candidates: Candidates, limit: int | None) -> Candidates:
    """The candidates with the highest confidences, in their order, as many as a graph takes."""
    if limit is None or len(candidates.boxes) <= limit:
        return candidates
    return candidates.part(candidates.confidences.amax(1).topk(limit).indices.sort().values)


def _alike(one: Detections, other: Detections) -> bool:
    """True for the same objects in any order."""
    rows = [
        torch.cat((d.classes[:, None].to(d.boxes), d.confidences[:, None], d.boxes), 1)
        for d in (one, other)
    ]
    if rows[0].shape != rows[1].shape:
        return False
    first, second = (torch.tensor(sorted(r.tolist())) for r in rows)
    return torch.allclose(first, second, rtol=SAME, atol=SAME)
