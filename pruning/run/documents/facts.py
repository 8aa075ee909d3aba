"""All that a document says about a cut: the report, and what only people ask for."""

from __future__ import annotations

import hashlib
import io
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pruning.graph.rules import has_filters
from pruning.measure.latency import processor
from pruning.run.comparison import Comparison
from pruning.run.console import NAME
from pruning.run.documents.pictures import Picture, pictures
from pruning.run.prune import Result
from pruning.run.report import Report, counted
from pruning.session import Cut, Inputs
from pruning.spec import Saved, Spec
from yolo.evaluation.results import Evaluation
from yolo.files import Writer, read_bytes
from yolo.models.load import is_random

PACKAGES = ("torch", "numpy", "opencv-python", "matplotlib")


@dataclass(frozen=True)
class Command:
    """A command line, and what it does."""

    what: str
    line: str


@dataclass(frozen=True)
class NamedFile:
    """A file that was read or is written: its size in bytes and its sha256."""

    what: str
    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, what: str, path: str, content: bytes) -> NamedFile:
        """That of a file with this content."""
        return cls(what, path, len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class SectionFacts:
    """A section of the original: channels (None: no filters), ms (None: not measured, or gone)."""

    index: int
    section: str
    before: int | None
    after: int | None
    constants: str
    ms_before: float | None
    ms_after: float | None


@dataclass(frozen=True)
class Facts:
    """All that a document says; `asked` are the settings of the cut by name.

    `evaluations` are those before and after, where there were labeled images; `exported` is a
    sentence on the proof of a file in another format.
    """

    title: str
    report: Report
    asked: Mapping[str, str]
    sections: Sequence[SectionFacts]
    evaluations: tuple[Evaluation, Evaluation] | None
    pictures: Sequence[Picture]
    comparison: Comparison | None
    files: Sequence[NamedFile]
    commands: Sequence[Command]
    versions: Mapping[str, str]
    exported: str = ""

    @classmethod
    def of(
        cls,
        result: Result,
        inputs: Inputs,
        stem: str,
        writers: Sequence[tuple[Path, Writer]],
        commands: Sequence[Command],
        comparison: Comparison | None = None,
        read: Mapping[str, str] | None = None,
        exported: str = "",
    ) -> Facts:
        """Those of a cut whose files these writers write; raises DarknetError.

        `read` names files that were read beside the inputs.
        """
        session, cut = result.session, result.cut
        evaluations = None
        if session.accuracy:
            before, after = (session.accuracy(net) for net in (session.original, cut.network))
            evaluations = before, after
        session.progress("drawing")
        return cls(
            stem,
            result.report,
            _asked(cut.spec, inputs),
            list(_sections(cut, result.report)),
            evaluations,
            pictures(inputs, session.original, cut.network),
            comparison,
            [*_read(inputs, read or {}), *_written(writers)],
            commands,
            _versions(result.report),
            exported,
        )


def _asked(spec: Spec, inputs: Inputs) -> dict[str, str]:
    """The options that differ from their defaults, with the strategy and the amount, by name."""
    found = {"strategy": spec.strategy}
    if not isinstance(spec.amount, Saved):
        found[spec.amount.kind] = str(spec.amount)
    ranking, limits = spec.ranking, spec.limits
    found |= {
        name: str(value)
        for name, value in {**vars(ranking), **vars(limits)}.items()
        if value != getattr(type(ranking if name in vars(ranking) else limits), name)
    }
    found |= {"constants": spec.fold, "recovery": spec.recover}
    if inputs.calibrate:
        found["calibration images"] = f"up to {inputs.calibration_images} of {inputs.calibrate}"
    if inputs.data:
        found["validation images"] = inputs.data
    return found


def _sections(cut: Cut, report: Report) -> Iterator[SectionFacts]:
    """The sections that have filters of their own, or whose latency is known."""
    layers = cut.shortened.original.layers
    gone = set(range(len(layers))) - cut.shortened.index_map.keys()
    changes = {change.index: change for change in report.layers}
    times = {time.index: time for time in report.times.sections} if report.times else {}
    for i, layer in enumerate(layers):
        change, time = changes.get(i), times.get(i)
        width = layer.out_shape.channels if has_filters(layer) and not layer.owner else None
        if width is None and time is None:
            continue
        left = 0 if i in gone and width else width
        yield SectionFacts(
            i,
            layer.section.type,
            width,
            change.after if change and width else left,
            change.constants if change else "",
            time.before if time else None,
            time.after if time else None,
        )


def _read(inputs: Inputs, more: Mapping[str, str]) -> Iterator[NamedFile]:
    """The files that the user named, folders and random weights left out."""
    named = {
        "cfg": inputs.cfg,
        "weights": None if is_random(inputs.weights) else inputs.weights,
        "data": inputs.data,
        "calibration": inputs.calibrate,
        "scan": inputs.scan,
        **more,
    }
    seen: set[str] = set()
    for what, path in named.items():
        if path and path not in seen and Path(path).is_file():
            seen.add(path)
            yield NamedFile.of(f"{what}, read", path, read_bytes(path, what))


def _written(writers: Sequence[tuple[Path, Writer]]) -> Iterator[NamedFile]:
    for path, write in writers:
        content = io.BytesIO()
        write(content)
        yield NamedFile.of(f"{path.suffix.lstrip('.')}, written", str(path), content.getvalue())


def _versions(report: Report) -> dict[str, str]:
    """Programs, processor and threads."""
    found = {NAME: _version(NAME), "Python": platform.python_version()}
    found |= {name: _version(name) for name in PACKAGES}
    if report.times:
        threads = counted(report.times.threads, "thread")
        found["latencies"] = f"{report.times.engine}, {threads}"
    return found | {"system": platform.platform(), "processor": processor()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
