"""The proof: masked against compact in torch, the written files in engines we did not write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from pruning.cut.blocks import remove, silenced
from pruning.cut.constants import constants
from pruning.cut.folding import Fold
from pruning.cut.shortened import Shortened
from pruning.cut.surgery import masked, operate
from pruning.graph.channels import ChannelGraph
from pruning.proof.engines.base import Engine, EngineError
from pruning.proof.flaws import Flawed, blamed, detours
from pruning.registry import ENGINES
from yolo.cfg import Cfg
from yolo.errors import DarknetError, ProofError
from yolo.models.randomize import check_memory, noise_image
from yolo.network import Network, State
from yolo.registry import Entry

SINGLE, DOUBLE, ENGINE = 1e-5, 1e-9, 1e-4  # relative L2 that may be left
ROUNDED = 1e-4  # what rounding to float32 may leave in a tensor
COARSE = "compared in float64: float32 rounding alone exceeds 1e-5 here"


@dataclass(frozen=True)
class Difference:
    """The relative L2 of a comparison, or the reason why it couldn't be made."""

    value: float | None
    note: str = ""


NOT_RUN = Difference(None, "not run")


@dataclass(frozen=True)
class Proof:
    """Differences at the tensors that enter the heads, as relative L2.

    `masked` compares the masked with the compact network: whether the surgery is exact. `fold` is
    what inexact folds leave between them. `blocks` is there where blocks are gone: the network
    without them, of which the masked one then is made, against silent branches; `posterior` where
    thresholds decided: the plain network against the masked Bayesian one.
    """

    masked: Difference
    fold: Difference
    engines: Mapping[str, Difference] = field(default_factory=dict)
    blocks: Difference | None = None
    posterior: Difference | None = None

    @property
    def all(self) -> dict[str, Difference]:
        """Every comparison by its name, in the order of a report."""
        first = {"posterior": self.posterior, "blocks": self.blocks}
        differences = {name: difference for name, difference in first.items() if difference}
        return {**differences, "masked": self.masked, "fold": self.fold, **self.engines}


@dataclass(frozen=True)
class Proofs:
    """The proofs to make: `names` of registry.PROOFS, by default all that can be made.

    `libraries` are the paths that users gave for engines, by name. An engine that was asked for by
    name or path must be there.
    """

    names: tuple[str, ...] | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)

    def makes(self, name: str) -> bool:
        return self.names is None or name in self.names

    def needs(self, name: str) -> bool:
        """True where a missing engine is an error."""
        return self.names is not None or name in self.libraries

    def engines(self) -> dict[str, Engine | Difference]:
        """The engines, or the reason why there is none; raises EngineError for a missing one."""
        asked = self.names or ()
        entries = (e for e in ENGINES.values() if e.name in asked or not e.optional)
        return {entry.name: self._engine(entry) for entry in entries}

    def _engine(self, entry: Entry) -> Engine | Difference:
        if not self.makes(entry.name):
            return NOT_RUN
        path = self.libraries.get(entry.name)
        try:
            engine: Engine = entry.load()(path) if path else entry.load()()
            return engine
        except EngineError as error:
            if self.needs(entry.name):
                raise
            return Difference(None, str(error))


def relative(actual: Mapping[int, Tensor], expected: Mapping[int, Tensor]) -> float:
    """The largest relative L2 difference of all tensors; infinite where one isn't finite."""
    worst = 0.0
    for index, tensor in expected.items():
        double = tensor.detach().double()
        difference = float((actual[index].detach().double() - double).norm())
        size = float(double.norm())
        ratio = difference / size if size else difference
        worst = max(worst, ratio if np.isfinite(ratio) else np.inf)
    return worst


def prove_engines(
    proofs: Proofs,
    original: Network,
    compact: Network,
    progress: Callable[[str], object] = lambda step: None,
) -> dict[str, Difference]:
    """The proofs in engines that are asked for; raises ProofError, EngineError."""
    differences = {}
    for name, engine in proofs.engines().items():
        if isinstance(engine, Difference):
            differences[name] = engine
        else:
            progress(f"running {name}")
            differences[name] = prove_engine(engine, original, compact)
    return differences


def prove_cut(
    graph: ChannelGraph, state: State, fold: Fold, cfg: Cfg, small: State
) -> tuple[Difference, Difference]:
    """Compare the cut with the masked network; in float64 where float32 is too coarse for it.

    Raises ProofError where they differ.
    """
    check_memory(graph.network)
    first = _compare(graph, state, fold, cfg, small)
    limit, note = SINGLE, ""
    if SINGLE < first[0] < np.inf:
        double = double_state(state)
        exact = replace(fold, constants=constants(graph.network, double))
        precise_cfg, precise = operate(graph, double, exact)
        _check_rounded(cfg, small, precise)
        first, limit = _compare(graph, double, exact, precise_cfg, precise), DOUBLE
        note = COARSE
    if not first[0] <= limit:
        check_finite(graph.network)
        raise ProofError(
            f"{cfg.path}: the compact network differs from the masked one by {first[0]:.1e} "
            f"(relative L2, allowed {limit:g})"
        )
    return Difference(first[0], note), Difference(first[1])


def prove_blocks(shortened: Shortened) -> Difference:
    """Compare a network without blocks with the original whose branches are silent.

    In float64 where float32 is too coarse for it. Raises ProofError where they differ.
    """
    check_memory(shortened.original)
    original, state = shortened.original, shortened.original.state()
    difference, limit, note = _compare_blocks(shortened, state, shortened.network), SINGLE, ""
    if SINGLE < difference < np.inf:
        removal = remove(original, double_state(state), shortened.blocks)
        _check_rounded(shortened.network.cfg, shortened.network.state(), removal.state)
        precise = Network.with_state(removal.cfg, removal.state)
        difference, limit = _compare_blocks(shortened, double_state(state), precise), DOUBLE
        note = COARSE
    if not difference <= limit:
        check_finite(original)
        raise ProofError(
            f"{original.cfg.path}: without blocks the network differs from that of silent branches "
            f"by {difference:.1e} (relative L2, allowed {limit:g})"
        )
    return Difference(difference, note)


def _compare_blocks(shortened: Shortened, state: State, network: Network) -> float:
    original, index_map = shortened.original, shortened.index_map
    heads = original.head_inputs
    x = noise_image(original).to(_dtype(state))
    with torch.no_grad():
        expected = silenced(original, state, shortened.blocks)(x, collect=heads)
        outputs = network(x, collect=[index_map[i] for i in heads])
    return relative({i: outputs[index_map[i]] for i in heads}, expected)


def double_state(state: State) -> State:
    """A copy in float64."""
    return {i: {n: t.double() for n, t in tensors.items()} for i, tensors in state.items()}


def _dtype(state: State) -> torch.dtype:
    return next((t.dtype for tensors in state.values() for t in tensors.values()), torch.float32)


def _check_rounded(cfg: Cfg, small: State, precise: State) -> None:
    """Raises ProofError where the tensors to be written aren't those that are compared."""
    for index, tensors in precise.items():
        for name, tensor in tensors.items():
            written = small[index][name]
            difference = (
                relative({0: written}, {0: tensor}) if written.shape == tensor.shape else np.inf
            )
            if difference > ROUNDED:
                where = cfg.layers[index].error(f"its {name} are off by {difference:.1e}")
                raise ProofError(f"the compact network isn't the one that is compared: {where}")


def check_finite(network: Network) -> None:
    """Raises DarknetError where the network's own outputs overflow, so that nothing is proven."""
    heads = network.head_inputs
    with torch.no_grad():
        outputs = network(noise_image(network), collect=heads)
    for index in heads:
        if not outputs[index].isfinite().all():
            where = network.cfg.layers[index].error("gives numbers that are not finite")
            raise DarknetError(f"the network can't be compared with a compact one: {where}")


def _compare(
    graph: ChannelGraph, state: State, fold: Fold, cfg: Cfg, small: State
) -> tuple[float, float]:
    """Differences of the cut from the masked network with, and without, its inexact folds."""
    network = graph.network
    x, heads = noise_image(network).to(_dtype(state)), network.head_inputs
    with torch.no_grad():
        compact = Network.with_state(cfg, small)(x, collect=heads)
        folded = Network.with_state(network.cfg, masked(graph, state, fold, True))(x, collect=heads)
        exact = relative(compact, folded)
        del folded
        pure = Network.with_state(network.cfg, masked(graph, state, fold, False))(x, collect=heads)
    return exact, relative(compact, pure)


def prove_plain(bayesian: Network, plain: Network) -> Difference:
    """Compare a plain network with the posterior means of the Bayesian one that it is made of.

    Raises ProofError where they differ.
    """
    x, heads = noise_image(plain), plain.head_inputs
    with torch.no_grad():
        difference = relative(plain(x, collect=heads), bayesian(x, collect=heads))
    if not difference <= SINGLE:
        check_finite(plain)
        raise ProofError(
            f"{bayesian.cfg.path}: the plain network differs from the masked Bayesian one by "
            f"{difference:.1e} (relative L2, allowed {SINGLE:g})"
        )
    return Difference(difference)


def prove_engine(engine: Engine, original: Network, compact: Network) -> Difference:
    """Run the written files in an engine and compare with torch.

    An engine that doesn't reproduce the original model is left out, and says why; one that is
    known to compute some sections wrongly is compared without them. Raises ProofError where it
    reproduces the original model but not the compact one.
    """
    # CRLF or a key given twice is no reason to leave an engine out
    original = Network.with_state(original.cfg.strict(), original.state())
    try:
        before = _difference(engine, original, original.head_inputs)
        if not before <= ENGINE:
            detour = _prove_flawed(engine, original, original, compact)
            return detour or Difference(None, _disagreement(engine, before))
    except EngineError as error:
        return Difference(None, str(error))
    after = _after(engine, compact, compact.head_inputs)
    if not after <= ENGINE:
        return _prove_flawed(engine, compact, original, compact) or _fail(engine, compact, after)
    return Difference(after, f"in {engine.name}")


def _disagreement(engine: Engine, before: float) -> str:
    if before == np.inf:
        return f"{engine.name} gives numbers that are not finite, or torch does"
    return f"differs from torch by {before:.1e} on the original already"


def _prove_flawed(
    engine: Engine, suspect: Network, original: Network, compact: Network
) -> Difference | None:
    """The proof without what the engine computes wrongly, for narrower images where that helps.

    None where it isn't that which makes `suspect` differ.
    """
    if not isinstance(engine, Flawed):
        return None
    wrong = blamed(engine, suspect, partial(_difference, engine), ENGINE)
    if wrong is None:
        return None
    reason = f"{engine.flaw} (line {suspect.layers[wrong].section.line + 1})"
    first, second = detours(engine, [original, compact])
    if not (first.sections and second.sections):
        return Difference(None, f"{reason}: nothing comes before that")
    before = _difference(engine, first.network, first.sections)
    if not before <= ENGINE:
        return Difference(None, f"{reason}, and it differs by {before:.1e} {first.where}, too")
    after = _after(engine, second.network, second.sections)
    if not after <= ENGINE:
        _fail(engine, compact, after)
    return Difference(after, f"in {engine.name} {second.where}: {reason}")


def _fail(engine: Engine, compact: Network, after: float) -> NoReturn:
    raise ProofError(
        f"{compact.cfg.path}: {engine.name} differs from torch by {after:.1e} on the compact "
        f"network (relative L2, allowed {ENGINE:g})"
    )


def _after(engine: Engine, compact: Network, layers: Sequence[int]) -> float:
    try:
        return _difference(engine, compact, layers)
    except EngineError as error:
        raise ProofError(f"{error}, though it runs the original") from error


def _difference(engine: Engine, network: Network, layers: Sequence[int]) -> float:
    x = noise_image(network)
    found = engine.run(network.cfg, network, x.numpy(), layers)
    with torch.no_grad():
        expected = network(x, collect=layers)
    return relative({i: torch.from_numpy(array) for i, array in found.items()}, expected)
