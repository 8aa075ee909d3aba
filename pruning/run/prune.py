"""One cut from inputs to files: inputs → session → cut → proof → report → files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pruning.measure.progress import Progress
from pruning.proof.verify import (
    NOT_RUN,
    SINGLE,
    Difference,
    Proof,
    Proofs,
    prove_blocks,
    prove_cut,
    prove_engines,
    prove_plain,
)
from pruning.registry import TORCH
from pruning.run.report import Report, report_of
from pruning.session import Cut, Inputs, Session
from pruning.spec import Spec, Thresholds
from yolo.files import Writer, content_writer, write_files
from yolo.models.weights import Header, weights_writer
from yolo.network import Network


@dataclass(frozen=True)
class Result:
    """A proven cut of a session's network, and the files that it fills."""

    cut: Cut
    header: Header
    report: Report
    session: Session

    def writers(self, folder: Path, stem: str) -> list[tuple[Path, Writer]]:
        """Writers of STEM.cfg, .weights and .json."""
        report = self.report.to_json(result_files(folder, stem))
        return model_writers(folder, stem, self.cut.network, self.header, report)

    def write(self, folder: Path, stem: str) -> dict[str, Path]:
        """Write STEM.cfg, .weights and .json, all or none; raises DarknetError."""
        write_files(self.writers(folder, stem))
        return result_files(folder, stem)


def prune(
    inputs: Inputs,
    spec: Spec,
    proofs: Proofs | None = None,
    runs: int = 5,
    progress: Progress = lambda step: None,
) -> Result:
    """Prune in memory and prove it; raises DarknetError, and ProofError where the proof fails.

    Latencies are measured in `runs` runs, 0 for none.
    """
    proofs = proofs or Proofs()
    computes = bool(runs or proofs.names != ())
    session = Session.open(inputs, progress, computes)
    cut = session.cut(spec)
    proof = proof_of(session, cut, proofs)
    report = report_of(session, inputs, cut, proof, runs)
    return Result(cut, session.header, report, session)


def proof_of(session: Session, cut: Cut, proofs: Proofs) -> Proof:
    """All proofs of a cut that are asked for; raises ProofError, EngineError."""
    blocks = NOT_RUN if cut.shortened.blocks else None
    posterior = NOT_RUN if cut.posterior else None
    masked, fold = NOT_RUN, NOT_RUN
    if proofs.makes(TORCH):
        if cut.shortened.blocks:
            session.progress("comparing with silent branches")
            blocks = prove_blocks(cut.shortened)
        session.progress("comparing with the masked network")
        masked, fold = _prove_surgery(cut)
        posterior = _prove_posterior(cut)
    engines = prove_engines(proofs, cut.shortened.original, cut.network, session.progress)
    return Proof(masked, fold, engines, blocks, posterior)


def _prove_surgery(cut: Cut) -> tuple[Difference, Difference]:
    state = cut.graph.network.state()
    compact = cut.compact
    masked, fold = prove_cut(cut.graph, state, cut.fold, compact.cfg, compact.state())
    if fold.value is not None and fold.value > SINGLE and not masked.note:
        fold = replace(fold, note="see the constants of each section")
    return masked, fold


def _prove_posterior(cut: Cut) -> Difference | None:
    if cut.posterior is None:
        return None
    if isinstance(cut.spec.amount, Thresholds) and cut.spec.amount.reduced:
        return Difference(None, "not run: the weights are rounded")
    return prove_plain(cut.posterior.network, cut.graph.network)


def model_writers(
    folder: Path, stem: str, network: Network, header: Header, report: str
) -> list[tuple[Path, Writer]]:
    """Writers of a network and its report to result_files."""
    paths = result_files(folder, stem)
    return [
        (paths["cfg"], content_writer(network.cfg.to_bytes())),
        (paths["weights"], weights_writer(network, header)),
        (paths["json"], content_writer(report.encode())),
    ]


def result_files(folder: Path, stem: str) -> dict[str, Path]:
    """The paths of a result's cfg, weights and report."""
    return {kind: folder / f"{stem}.{kind}" for kind in ("cfg", "weights", "json")}
