"""A wish for a network, and the way to what fulfils it."""

from hypothesis import strategies as st

from pruning.cut.folding import Folding
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.measure.costs import Costs, Spent
from pruning.options import FOLDS, SENSITIVITY, SIGNAL
from pruning.run.report import cost
from pruning.selection import Wish, reachable, select, strategies
from pruning.selection.importance import IMPORTANCES, MEASURED, Model
from pruning.selection.schedule import Path
from yolo.models.weights import Header, weights_size
from yolo.network import Network

DATA_FREE = tuple(name for name in IMPORTANCES if name not in (*MEASURED, SENSITIVITY, SIGNAL))
modes = st.sampled_from(tuple(FOLDS))


class Trial:
    """One wish for one network."""

    def __init__(self, found, mode="auto", strategy="shortcut", percent=None, **wish):
        self.found, self.graph = found, ChannelGraph(found.network)
        self.folding = Folding(self.graph, found.state, mode)
        self.wish = Wish(strategy, percent, **wish)
        self.model = Model(self.graph, found.state, seed=self.wish.seed)
        self.costs = Costs(self.graph)

    def candidates(self):
        return strategies.STRATEGIES[self.wish.strategy].candidates(self.graph)

    def pool(self):
        return sum(family.cost * family.slots for family in self.candidates())

    def reach(self):
        return reachable(self.graph, self.found.state, self.wish, self.folding)

    def plan(self, **more):
        return select(self.model, self.wish, self.folding, **more)

    def fold(self, plan=None):
        plan = plan or self.plan()
        return self.folding.fold(plan.alive(self.graph), plan.mean)

    def way(self):
        return Path(self.model, self.wish, self.folding)

    def spent(self, fold):
        return self.costs.of(fold.kept)

    def built(self, plan):
        return Network.with_state(*operate(self.graph, self.found.state, self.fold(plan)))

    def cut(self, fold):
        """Channels that are gone, of all sections with filters."""
        return sum(int((~fold.kept[self.graph.outputs[i]]).sum()) for i in self.graph.producers)

    def kept(self, plan):
        """How many slots of every candidate stay, with constant channels."""
        kept = self.fold(plan).kept
        return [int(kept[c.family.groups[0]].sum()) for c in self.way().ranking.candidates]


def spent(network, header=None):
    """What the built network says of itself."""
    header = header or Header()
    channels = cost(network, header).channels
    size = weights_size(network, header)
    return Spent(channels, network.count_parameters(), network.macs(), size)
