"""Channel ids and what ties them together: equal ids, equal counts, pins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class Coupling:
    """Union-find over channel ids, vectorised; it also collects pins and equal counts."""

    def __init__(self) -> None:
        self._parent: Ids = np.zeros(0, np.int64)  # with room for more than `_count` ids
        self._count = 0
        self.pins: list[tuple[Ids, str]] = []
        self.equal: list[Ids] = []  # (parts, channels): every part keeps as many as the others
        self.inputs: dict[int, list[Ids]] = {}  # section → the ids of each source
        self.outputs: dict[int, Ids] = {}  # section → the ids of its output

    def fresh(self, count: int) -> Ids:
        """New ids that nothing is tied to."""
        ids = np.arange(self._count, self._count + count)
        self._count += count
        if self._count > len(self._parent):
            self._parent = np.resize(self._parent, 2 * self._count)
        self._parent[ids] = ids
        return ids

    def unite(self, a: Ids, b: Ids) -> None:
        """Tie a[k] to b[k]: they live and die together."""
        while True:
            a, b = self.find(a), self.find(b)
            apart = a != b
            if not apart.any():
                return
            low, high = np.minimum(a, b)[apart], np.maximum(a, b)[apart]
            np.minimum.at(self._parent, high, low)

    def find(self, ids: Ids) -> Ids:
        """The representative of each id: the group that it belongs to."""
        while True:
            up = self._parent[ids]
            if np.array_equal(up, ids):
                return ids
            ids = up

    def pin(self, ids: Ids, reason: str) -> None:
        """These can't be cut; the first reason that is given for a channel is the one shown."""
        self.pins.append((ids, reason))

    def keep_equal(self, ids: Ids, parts: int) -> None:
        """Split into `parts` equal runs, which must keep equally many channels."""
        if parts > 1:
            self.equal.append(ids.reshape(parts, -1))

    def __len__(self) -> int:
        return self._count
