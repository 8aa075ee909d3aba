"""All that a user can choose by name, in one list each.

A list is data: importing it imports no torch, so that `--help` is fast. `where` names the function
or class that does the work.
"""

from __future__ import annotations

from dataclasses import dataclass

from yolo.registry import Entry, registry

# in place of a multiple: counts are rounded up to powers of two; the search keeps to the step that
# engines compute channels in
POWERS, AUTO = 0, -1

# what an importance or a recovery needs, and the option that gives it
IMAGES, SCAN, POSTERIOR = "images", "a scan", "the .pt of a network with Bayesian sections"
OPTIONS = {IMAGES: "--calibrate", SCAN: "--scan", POSTERIOR: "--weights"}


@dataclass(frozen=True)
class Strategy(Entry):
    """`where` are the families that it may cut: (ChannelGraph) → list of families.

    `accepts` are kinds of amounts (spec.Amount.kind), as in the `example`; `limits` the names of
    spec.Limits that have an effect. A strategy that `ranks` cuts the channels with the lowest
    scores; `group`, `layer_keep` and `round_to` are its defaults.
    """

    accepts: tuple[str, ...] = ("percent", "targets")
    ranks: bool = True
    group: str = "first"
    layer_keep: float = 0.0
    round_to: int | None = None
    example: str = "--percent 0.5, or --target macs=0.5"
    limits: tuple[str, ...] = ("keep_min", "layer_keep", "round_to", "spare", "only")

    @property
    def takes_blocks(self) -> bool:
        """True where whole residual blocks go, before channels do."""
        return any(kind.startswith("blocks") for kind in self.accepts)

    @property
    def takes_posteriors(self) -> bool:
        """True where thresholds on the posteriors of a Bayesian network decide."""
        return "thresholds" in self.accepts


_FAMILIES = "pruning.selection.families"
STRATEGIES = registry(
    Strategy(
        "normal",
        "a global threshold on |γ|; spares what shortcuts touch and what feeds an upsample",
        f"{_FAMILIES}:untouched",
    ),
    Strategy(
        "regular",
        "as normal, then every count is rounded up to a power of two, from 8",
        f"{_FAMILIES}:untouched",
        round_to=POWERS,
    ),
    Strategy(
        "shortcut",
        "everything that can be cut, what shortcuts couple included",
        f"{_FAMILIES}:everything",
    ),
    Strategy("tiny", "as normal, for networks without shortcuts", f"{_FAMILIES}:tiny"),
    # slim_prune.py of tanluren/yolov3-channel-and-layer-pruning, for all that couples channels
    Strategy(
        "slim",
        "everything; what is coupled stays as long as any of it is above the threshold, and every "
        "layer keeps at least 1 % (--layer-keep)",
        f"{_FAMILIES}:everything",
        group="union",
        layer_keep=0.01,
    ),
    Strategy(
        "layer",
        "whole residual blocks: --blocks N, or as many as --target takes",
        accepts=("blocks", "targets"),
        ranks=False,
        example="--blocks N, or --target macs=0.5",
        limits=("spare", "only"),
    ),
    Strategy(
        "slim+layer",
        "--blocks N whole residual blocks, then slim for the channels of what is left",
        f"{_FAMILIES}:everything",
        accepts=("blocks and percent", "blocks and targets"),
        group="union",
        layer_keep=0.01,
        example="--blocks N with --percent 0.3 or --target macs=0.5",
    ),
    Strategy(
        "bayesian",
        "the groups of Bayesian sections at or above --thresholds; takes a .pt",
        f"{_FAMILIES}:everything",
        accepts=("thresholds",),
        ranks=False,
        example="--thresholds auto",
        limits=("keep_min", "spare", "only"),
    ),
)


@dataclass(frozen=True)
class ImportanceEntry(Entry):
    """`where` is a function of a selection.importance.Model; `needs` is what it looks at.

    One that is a loss is divided by the MACs that go with it (`per_mac`).
    """

    needs: str = ""
    per_mac: bool = False


_IMPORTANCE = "pruning.selection.importance"
BN, LEAST_SQUARES, SENSITIVITY = "bn", "least-squares", "sensitivity"  # the defaults
IMPORTANCES = registry(
    ImportanceEntry(BN, "|γ|, the filter's L2 norm without BN", f"{_IMPORTANCE}:bn"),
    ImportanceEntry("l1", "Σ|w| of the filter", f"{_IMPORTANCE}:l1"),
    ImportanceEntry("l2", "L2 norm of the filter", f"{_IMPORTANCE}:l2"),
    ImportanceEntry("fpgm", "distance to the other filters of the section", f"{_IMPORTANCE}:fpgm"),
    ImportanceEntry(
        "lamp",
        "share of the filter's energy among those that are not smaller",
        f"{_IMPORTANCE}:lamp",
    ),
    ImportanceEntry(
        "bn-next", "bn times the norm of the weights that see the channel", f"{_IMPORTANCE}:bn_next"
    ),
    ImportanceEntry("random", "random numbers, see --seed", f"{_IMPORTANCE}:random"),
    ImportanceEntry(
        "activation",
        "variance of the channel's output on the calibration images",
        f"{_IMPORTANCE}:activation",
        needs=IMAGES,
    ),
    ImportanceEntry(
        "taylor",
        "change of the heads without the channel, to first order, on these images",
        f"{_IMPORTANCE}:taylor",
        needs=IMAGES,
    ),
    ImportanceEntry(
        LEAST_SQUARES,
        "change of the heads after the other channels' weights are solved anew",
        f"{_IMPORTANCE}:least_squares",
        needs=IMAGES,
        per_mac=True,
    ),
    ImportanceEntry(
        "signal",
        "signal over noise of the filter's weights in a Bayesian .pt",
        f"{_IMPORTANCE}:signal",
        needs=POSTERIOR,
    ),
    ImportanceEntry(
        SENSITIVITY,
        "measured loss of cutting its family alone, see --scan",
        f"{_IMPORTANCE}:sensitivity",
        needs=SCAN,
        per_mac=True,
    ),
)

COMPARISONS = registry(
    Entry("global", "all channels with each other", "pruning.selection.order:all_alike"),
    Entry("layer", "every layer loses the same share", "pruning.selection.order:by_layer"),
    Entry(
        "isomorphic",
        "layers of equal shapes with each other; all shapes lose the same share",
        "pruning.selection.order:by_shape",
    ),
)
GROUP_SCORES = registry(
    Entry("first", "of the first convolution of a chain"),
    Entry("max", "the highest"),
    Entry("mean", "the mean"),
    Entry("sum", "the sum"),
    Entry("union", "a group stays as long as any of its channels is above the threshold"),
)


@dataclass(frozen=True)
class Recovery(Entry):
    """`where` finds weights from images: calibration.reconstruct.Method; none where `needs` isn't.

    `fold`: how constants are kept where that isn't said.
    """

    needs: str = ""


NO_RECOVERY, FOLD, RECONSTRUCT = "none", "fold", "reconstruct"
RECOVERIES = registry(
    Recovery(NO_RECOVERY, "constants of channels that go are dropped"),
    Recovery(FOLD, "constants are kept, see --fold"),
    Recovery(
        "bn",
        "outputs get back their means and variances",
        "pruning.calibration.reconstruct:matched",
        needs=IMAGES,
    ),
    Recovery(
        RECONSTRUCT,
        "weights are solved anew, section by section, by least squares",
        "pruning.calibration.reconstruct:solved",
        needs=IMAGES,
    ),
)
FOLDS = registry(
    Entry("auto", "exact, but narrow layers take the mean fold where that loses less"),
    Entry("exact", "a constant channel wherever zero padding is seen"),
    Entry("mean", "all constants into biases, weighted by how often a tap lies inside the map"),
)


@dataclass(frozen=True)
class EngineEntry(Entry):
    """`where` is a proof.engines.base.Engine, `title` its row in a report's table of proofs.

    `profiles`: it is a proof.engines.base.ProfilingEngine, too, which takes times. `path` says
    what the option --NAME takes, which the class is made with; "" for no such option. Every engine
    is run by default; one that is missing is named in the report, unless it is `optional`: those
    only run where --verify names them.
    """

    title: str = ""
    path: str = ""
    profiles: bool = False
    optional: bool = False


TORCH = "torch"
ENGINES = registry(
    EngineEntry(
        "opencv",
        "the written files in OpenCV DNN",
        "pruning.proof.engines.opencv:OpenCV",
        "compact network in OpenCV, BN epsilon aligned",
        profiles=True,
    ),
    EngineEntry(
        "onnxruntime",
        "an ONNX file of the compact network in onnxruntime",
        "pruning.proof.engines.onnxruntime:OnnxRuntime",
        "compact network as ONNX in onnxruntime",
        profiles=True,
    ),
    EngineEntry(
        "openvino",
        "the ONNX file in OpenVINO, where it is named",
        "pruning.proof.engines.openvino:OpenVino",
        "compact network as ONNX in OpenVINO",
        optional=True,
    ),
    EngineEntry(
        "ncnn",
        "the network converted for ncnn, where it is named",
        "pruning.proof.engines.ncnn:Ncnn",
        "compact network in ncnn",
        optional=True,
    ),
    EngineEntry(
        "darknet",
        "the written files in a Darknet library",
        "pruning.proof.engines.darknet:Darknet",
        "compact network in Darknet, BN epsilon aligned",
        "a Darknet library, or its binary",
    ),
)
# what takes times, of all and of the first that can run a network
TIMED = registry(
    *(engine for engine in ENGINES.values() if engine.profiles),
    Entry(TORCH, "here, BN folded", "pruning.measure.latency:torch_profile"),
)
# of files in export formats, by the format's name: (Network, OnnxOptions, contents, images)
EXPORT_PROOFS = registry(
    Entry("onnx", "in onnxruntime", "pruning.proof.exported:prove_onnx"),
    Entry("ncnn", "in ncnn", "pruning.proof.exported:prove_ncnn"),
)
PROOFS = registry(Entry(TORCH, "the masked against the compact network"), *ENGINES.values())

SCHEDULES = registry(
    Entry("constant", "all the time", "pruning.sparse.penalty:constant"),
    Entry(
        "global-decay",
        "a hundredth from half of the epochs on",
        "pruning.sparse.penalty:global_decay",
    ),
    Entry(
        "local-decay",
        "a hundredth from half of the epochs on for the 15 % largest",
        "pruning.sparse.penalty:local_decay",
    ),
)
PRIORS = registry(
    Entry("gnj", "group normal-Jeffreys", "yolo.layers.priors:NormalJeffreys"),
    Entry("ghs", "group horseshoe", "yolo.layers.priors:Horseshoe"),
)
DOCUMENTS = registry(
    Entry("html", "a page with pictures, in one file", "pruning.run.documents.page:page"),
    Entry("md", "a model card in Markdown", "pruning.run.documents.card:card"),
)
CALIBRATION_IMAGES = 64
