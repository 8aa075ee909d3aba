"""Everything that prune takes, as one value that tests vary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pruning.cut.plan import Plan
from pruning.proof.verify import Proofs
from pruning.run import prune as running
from pruning.run.prune import Result
from pruning.session import Inputs
from pruning.spec import Saved, Spec

INPUTS = set(Inputs.__dataclass_fields__)


@dataclass(frozen=True)
class Job:
    """Inputs, a spec, the proofs to make, and how often latencies are measured."""

    inputs: Inputs
    spec: Spec
    proofs: Proofs = field(default_factory=Proofs)
    runs: int = 5
    progress: Callable[[str], object] = lambda step: None

    def with_inputs(self, **more: object) -> Job:
        return replace(self, inputs=replace(self.inputs, **more))  # type: ignore[arg-type]


def make_job(
    cfg: str | None,
    weights: str,
    spec: Spec,
    *,
    verify: tuple[str, ...] | None = None,
    darknet: str | None = None,
    runs: int = 5,
    plan: str | None = None,
    progress: Callable[[str], object] = lambda step: None,
    **inputs: object,
) -> Job:
    """A job from single values; a saved plan takes the place of the spec's amount."""
    if plan is not None:
        saved = Plan.load(plan)
        spec = Spec(saved.strategy, Saved(saved), fold=spec.fold, recover=spec.recover)
    proofs = Proofs(verify, {"darknet": darknet} if darknet else {})
    all_inputs = Inputs(cfg, weights, **inputs)  # type: ignore[arg-type]
    return Job(all_inputs, spec, proofs, runs, progress)


def prune(job: Job) -> Result:
    return running.prune(job.inputs, job.spec, job.proofs, job.runs, job.progress)
