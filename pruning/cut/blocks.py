"""Residual blocks: which can be removed, how much they matter, and the network without them.

A block is what stands between a [shortcut] and that of its inputs which all its others are made
from, its skip. Without the block the skip takes the shortcut's place, exactly. Where a factor
(weights_type=) or an activation would change it once more, that stays as a depthwise 1x1
[convolutional]: OpenCV doesn't know an [activation], and in one AlexeyAB's Darknet computes swish
and mish wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from yolo.cfg import Cfg
from yolo.errors import PlanError
from yolo.layers import IMAGE, Layer
from yolo.layers.combining import Route, Shortcut, normalised
from yolo.layers.references import references, renumbered
from yolo.layers.written import depthwise, route
from yolo.network import Network, State

IDEMPOTENT = ("linear", "relu", "relu6", "hardtan")  # activations that change nothing twice
SELECTING = ("route", "dropout", "maxpool")  # each output is one of the inputs


@dataclass(frozen=True)
class Block:
    """A [shortcut], its skip source, and all sections that only its branch needs.

    `sections` are what goes, the shortcut among them; empty for a block that must stay, whose
    `reason` says why, as the end of a sentence: "section 7 of its branch feeds section 9, too".
    Of a block that `leaves` something a depthwise [convolutional] stays in the shortcut's place.
    """

    shortcut: int
    skip: int
    sections: tuple[int, ...] = ()
    leaves: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class Removal:
    """The network without some blocks.

    Its section `index_map[i]` computes what section i of the original does: a skip stands for a
    shortcut that is gone, other sections that are gone aren't in the map.
    """

    cfg: Cfg
    state: State
    index_map: Mapping[int, int]


def residual_blocks(network: Network) -> tuple[Block, ...]:
    """The block of every [shortcut], in the order of these, those that must stay included."""
    return tuple(_block(network, layer) for layer in network.layers if isinstance(layer, Shortcut))


def silenced(network: Network, state: State, blocks: Iterable[Block]) -> Network:
    """The original whose shortcuts see zeros in place of these blocks' branches.

    It is what a removal is compared with. Raises PlanError for a block that must stay.
    """
    masked = Network.with_state(network.cfg, state)
    for index, skip in _skips(network, blocks).items():
        passed = [root == skip for root in root_sources(network, masked.layers[index])]
        masked.layers[index].register_forward_pre_hook(partial(_only, passed))
    return masked


def remove(network: Network, state: State, blocks: Iterable[Block]) -> Removal:
    """The network without these blocks, nested ones among them; it shares its tensors with `state`.

    Raises PlanError for a block that must stay.
    """
    skips = _skips(network, blocks)
    removing = _Removing(network, state, skips)
    for layer in network.layers:
        removing.take(layer)
    return removing.finished()


def _skips(network: Network, blocks: Iterable[Block]) -> dict[int, int]:
    """The skip of each shortcut; raises PlanError for a block that must stay."""
    skips = {}
    for block in blocks:
        if block.reason is not None:
            where = network.layers[block.shortcut].section
            raise PlanError(str(where.error(f"its block can't be removed: {block.reason}")))
        skips[block.shortcut] = block.skip
    return skips


def _block(network: Network, layer: Shortcut) -> Block:
    index, roots = layer.section.index, root_sources(network, layer)
    skip = min(roots)  # what others are made from comes before them
    reason = _refusal(network, layer, roots)
    if reason is not None:
        return Block(index, skip, reason=reason)
    needed = _needed(network, {index: skip}) - {index}
    gone = tuple(i for i in range(len(network.layers)) if i not in needed)
    return Block(index, skip, gone, _leaves(network, layer, skip))


def _refusal(network: Network, layer: Shortcut, roots: Sequence[int]) -> str | None:
    """Why the block of a [shortcut] must stay."""
    index, skip = layer.section.index, min(roots)
    if roots.count(skip) > 1:
        return f"it adds the output of section {skip} to itself"
    derived = {skip}  # from the skip, as sections on the way to the shortcut are
    for i in range(skip + 1, index):
        if derived & set(network.layers[i].sources):
            derived.add(i)
    if not derived >= set(roots):
        other = next(i for i in roots if i not in derived)
        return f"section {other}, which it adds, isn't made from section {skip}, its other input"
    shape = network.layers[skip].out_shape
    if shape != layer.out_shape:
        return f"its output is {layer.out_shape}, but its skip is section {skip}: {shape}"
    needed = _needed(network, {index: skip})
    used = {i for i in derived & _behind(network, index) & needed if _root(network, i) != skip}
    return _use(network, max(used), needed - {index}) if used else None


def _use(network: Network, section: int, users: set[int]) -> str:
    """The use of a branch's section by sections that don't belong to the branch."""
    for i, layer in enumerate(network.layers):
        if i in users and section in _needs(layer):
            how = "feeds" if section in layer.sources else "shares its tensors with"
            kind = layer.section.name
            return f"section {section} of its branch {how} section {i}, a [{kind}], too"
    return f"section {section} of its branch is an output of the network"


def _behind(network: Network, section: int) -> set[int]:
    """All sections that feed one, by way of others too."""
    sections = set(network.layers[section].sources)
    for i in range(section - 1, -1, -1):
        if i in sections:
            sections.update(network.layers[i].sources)
    return sections


def _needed(network: Network, skips: Mapping[int, int]) -> set[int]:
    """The sections that results are made with where these shortcuts only pass their skips."""
    sections = set(network.heads)
    for i in range(len(network.layers) - 1, -1, -1):
        if i in sections or not network.consumers[i]:
            sections.add(i)
            sections.update((skips[i],) if i in skips else _needs(network.layers[i]))
    return sections


def _needs(layer: Layer) -> set[int]:
    """The sections that feed a section or share tensors with it."""
    return {*layer.sources, *(i for named in references(layer).values() for i in named)}


def root_sources(network: Network, layer: Layer) -> list[int]:
    """The sources of a section, or what they are copies of."""
    return [_root(network, source) for source in layer.sources]


def _root(network: Network, section: int) -> int:
    layer = network.layers[section]
    if isinstance(layer, Route) and len(layer.sources) == 1 and layer.groups == 1:
        return _root(network, layer.sources[0])
    return section


def _leaves(network: Network, layer: Shortcut, skip: int) -> bool:
    """True where a [shortcut] changes its skip when that is its only input."""
    if layer.weight is not None:
        return True
    name = layer.activation.name
    return name != "linear" and not (name in IDEMPOTENT and _ends_with(network, skip, name))


def _ends_with(network: Network, section: int, activation: str) -> bool:
    """True where all outputs of a section come from this activation."""
    if section == IMAGE:
        return False
    layer = network.layers[section]
    if layer.section.type in SELECTING:
        return all(_ends_with(network, source, activation) for source in layer.sources)
    return layer.activation is not None and layer.activation.name == activation


def _only(passed: Sequence[bool], layer: nn.Module, xs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A hook: the inputs that are passed, and zeros."""
    pairs = zip(xs, passed, strict=True)
    return tuple(x if passes else torch.zeros_like(x) for x, passes in pairs)


class _Removing:
    """A network that is put together again from the sections that stay."""

    def __init__(self, network: Network, state: State, skips: Mapping[int, int]) -> None:
        self.network, self.skips = network, skips
        self.original_state = state
        self.state: State = {}
        self.needed = _needed(network, skips)
        self.index_map: dict[int, int] = {}
        self.texts: dict[int, str] = {}  # of sections that others stand for
        self.count = 0

    def take(self, layer: Layer) -> None:
        """The next section, if it stays; for a shortcut its skip."""
        index = layer.section.index
        if index not in self.needed:
            self.texts[index] = ""
        elif isinstance(layer, Shortcut) and index in self.skips:
            self.texts[index] = "\n\n".join(self._passing(layer, self.skips[index]))
        else:
            if index in self.original_state:
                self.state[self.count] = self.original_state[index]
            self.index_map[index] = self.count
            self.count += 1

    def finished(self) -> Removal:
        network, index_map = self.network, self.index_map
        kept = (layer for layer in network.layers if layer.section.index not in self.texts)
        edits = {layer.section.index: renumbered(layer, index_map) for layer in kept}
        return Removal(network.cfg.edited(edits).replaced(self.texts), self.state, index_map)

    def _passing(self, layer: Shortcut, skip: int) -> list[str]:
        """The sections that a shortcut becomes, most often none."""
        index, sections = layer.section.index, []
        leaves = _leaves(self.network, layer, skip)
        source = self.index_map[skip]
        if source != self.count - 1 and (leaves or self._is_followed(index)):
            sections.append(route(source - self.count))
        if leaves:
            channels = layer.out_shape.channels
            sections.append(depthwise(channels, layer.activation.name))
            self.state[self.count + len(sections) - 1] = self._factors(layer, skip)
        self.count += len(sections)
        self.index_map[index] = self.count - 1 if sections else source
        return sections

    def _is_followed(self, index: int) -> bool:
        """True where the next section reads what stands there, not only what is found elsewhere."""
        if not self.network.consumers[index]:
            return True
        after = index + 1
        stays = after in self.needed and after not in self.skips
        return stays and self.network.layers[after].follows

    def _factors(self, layer: Shortcut, skip: int) -> dict[str, Tensor]:
        """Tensors that do to a skip what the shortcut's weights do."""
        channels = layer.out_shape.channels
        like = next(t for tensors in self.original_state.values() for t in tensors.values())
        weights = torch.ones(channels).to(like)
        factors = normalised(
            self.original_state.get(layer.section.index, {}).get("weights"), layer.normalization
        )
        if factors is not None:
            weights = weights * factors[root_sources(self.network, layer).index(skip)]
        return {"biases": torch.zeros_like(weights), "weights": weights.reshape(-1, 1, 1, 1)}
