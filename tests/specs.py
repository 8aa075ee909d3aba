"""Specs in short, and one of them for a network."""

from hypothesis import strategies as st

from pruning.cut.folding import Folding
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.measure.costs import Cost, Costs
from pruning.registry import FOLDS, IMPORTANCES, NO_RECOVERY, STRATEGIES
from pruning.selection.importance import Model
from pruning.selection.schedule import Schedule
from pruning.selection.select import reachable, select
from pruning.spec import Blocks, Limits, Percent, Ranking, Spec, Targets
from yolo.models.weights import Header
from yolo.network import Network

DATA_FREE = tuple(name for name, entry in IMPORTANCES.items() if not entry.needs)
CHANNEL_STRATEGIES = tuple(name for name, entry in STRATEGIES.items() if "percent" in entry.accepts)
MODES = (*FOLDS, NO_RECOVERY)
modes = st.sampled_from(MODES)


def spec(
    strategy,
    percent=None,
    group=None,
    keep_min=1,
    spare=(),
    only=None,
    round_to=None,
    *,
    target=None,
    importance=None,
    compare="global",
    per_mac=None,
    layer_keep=None,
    seed=0,
    blocks=None,
    fold="auto",
    recover="fold",
):
    """A Spec from single values."""
    channels = Percent(percent) if percent is not None else None
    if target is not None:
        channels = Targets.parse(target)
    amount = channels if blocks is None else Blocks(blocks, channels)
    ranking = Ranking(importance, group, compare, per_mac, seed)
    limits = Limits(keep_min, layer_keep, round_to, spare, only)
    return Spec(strategy, amount, ranking, limits, fold, recover)


class Trial:
    """One spec for one network."""

    def __init__(self, sample, mode="auto", strategy="shortcut", percent=None, **more):
        self.sample, self.graph = sample, ChannelGraph(sample.network)
        self.folding = Folding(self.graph, sample.state, mode)
        self.spec = spec(strategy, percent, **more)
        self.model = Model(self.graph, sample.state, seed=self.spec.ranking.seed)
        self.costs = Costs(self.graph)

    def candidates(self):
        return STRATEGIES[self.spec.strategy].load()(self.graph)

    def pool(self):
        return sum(family.cost * family.slots for family in self.candidates())

    def reach(self):
        return reachable(self.graph, self.sample.state, self.spec, self.folding)

    def plan(self, **more):
        return select(self.model, self.spec, self.folding, **more)

    def fold(self, plan=None):
        plan = plan or self.plan()
        return self.folding.fold(plan.alive(self.graph), plan.mean)

    def schedule(self):
        return Schedule(self.model, self.spec, self.folding)

    def cost(self, fold):
        return self.costs.of(fold.kept)

    def built(self, plan):
        return Network.with_state(*operate(self.graph, self.sample.state, self.fold(plan)))

    def cut(self, fold):
        """Channels that are gone, of all sections with filters."""
        return sum(int((~fold.kept[self.graph.outputs[i]]).sum()) for i in self.graph.producers)

    def kept(self, plan):
        """How many slots of every candidate stay, with constant channels."""
        kept = self.fold(plan).kept
        return [int(kept[c.family.groups[0]].sum()) for c in self.schedule().ranked.candidates]


def cost_of(network, header=None):
    """The cost of the built network."""
    return Cost.of(network, header or Header())
