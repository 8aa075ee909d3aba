"""Networks whose milliseconds are made up."""

from cfgs import conv, maxpool, net, shortcut
from random_cfg import sample

from pruning.cut.shortened import Shortened
from pruning.cut.surgery import operate
from pruning.proof.engines.base import Profile
from yolo.network import Network

TIMED = (
    net(16, 16)
    + conv(16)
    + conv(24)
    + conv(16)
    + shortcut(-3)
    + maxpool()
    + conv(32)
    + conv(4, size=1)
)


def ready(text):
    """A network of a cfg text, with trained-looking tensors."""
    trained = sample(text)
    state = {i: {n: t.float() for n, t in tensors.items()} for i, tensors in trained.state.items()}
    return Network.with_state(trained.network.cfg, state)


def timed(network, runs=0, seconds=0.0):
    """Milliseconds of an engine that takes a µs for a thousand MACs, and as much for a channel.

    It wastes time beside its sections, the more of it the more there is to do.
    """
    sections = {
        i: 1e-3 * (layer.macs() / 1000 + layer.out_shape.channels)
        for i, layer in enumerate(network.layers)
    }
    total = sum(sections.values())
    return Profile("Fake 1.0", 1, 1.3 * total + 0.05, sections)


def cut(graph, fold):
    return Network.with_state(*operate(graph, graph.network.state(), fold))


def finish(shortened, graph, fold):
    return cut(graph, fold)


def whole(network):
    return Shortened.of(network)


WHOLE = timed(sample(TIMED).network).ms
