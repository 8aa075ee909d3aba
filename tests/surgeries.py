"""Random cuts of random networks, and what they should compute."""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import reject
from hypothesis import strategies as st
from random_cfg import Sample, samples

from pruning.cut.folding import Fold, Folding
from pruning.cut.plan import Plan
from pruning.cut.surgery import masked, operate
from pruning.graph.channels import ChannelGraph
from pruning.registry import FOLDS
from yolo.cfg import Cfg
from yolo.network import Network, State


@dataclass(frozen=True)
class Cutting:
    """A random cut of a random network."""

    sample: Sample
    graph: ChannelGraph
    folding: Folding
    plan: Plan
    fold: Fold
    cfg: Cfg
    small: State

    def __repr__(self) -> str:
        return f"{self.sample!r}\n{self.folding.mode} {self.plan.keep}"

    @property
    def compact(self) -> Network:
        return Network.with_state(self.cfg, self.small)


def random_alive(graph, counts, seed=0):
    """`counts` slots of each family stay, chosen at random in each of its parts."""
    alive = np.ones(graph.size, bool)
    random = np.random.default_rng(seed)
    for family, count in zip(graph.families, counts, strict=True):
        for part in family.groups:
            alive[random.permutation(part)[count:]] = False
    return alive


def cut(sample, mode, counts=None, seed=0):
    """Cut to `counts` slots a family, by default half of them."""
    graph = ChannelGraph(sample.network)
    counts = counts or [(family.slots + 1) // 2 for family in graph.families]
    folding = Folding(graph, sample.state, mode)
    plan = Plan.of(graph, random_alive(graph, counts, seed), "random", 0)
    fold = folding.fold(plan.alive(graph), plan.mean)
    return Cutting(sample, graph, folding, plan, fold, *operate(graph, sample.state, fold))


@st.composite
def cuts(draw, modes=tuple(FOLDS)):
    sample = draw(samples())
    graph = ChannelGraph(sample.network)
    counts = [draw(st.integers(1, family.slots)) for family in graph.families]
    return cut(sample, draw(st.sampled_from(modes)), counts, draw(st.integers(0, 99)))


def outputs(network, x, wanted):
    with torch.no_grad():
        collected = network(x, wanted)
    if not all(torch.isfinite(out).all() and out.norm() < 1e30 for out in collected.values()):
        reject()
    return collected


def distance(a, b):
    """Relative L2; where nothing is there, absolute."""
    return float((a - b).norm() / (b.norm() + 1e-12))


def compared(cutting, folded):
    """The largest distance of the small network from the masked one at the heads' inputs."""
    sample = cutting.sample
    reference = masked(cutting.graph, sample.state, cutting.fold, folded)
    wanted = sample.network.head_inputs
    a = outputs(cutting.compact, sample.x, wanted)
    b = outputs(Network.with_state(sample.network.cfg, reference), sample.x, wanted)
    return max((distance(a[i], b[i]) for i in wanted), default=0.0)


def carried(cutting):
    """Whether every constant that padding borders on can be carried exactly."""
    weak, seen = cutting.folding.weak, cutting.folding.seen
    for family in cutting.graph.families:
        dropped = ~cutting.fold.alive[family.groups]
        strong = dropped & ~weak[family.groups]
        if (seen[family.groups] & dropped).any() and not strong.any(1).all():
            return False
    return True
