"""Outputs of sections, held for as long as others need them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from yolo.layers import IMAGE, Layer

T = TypeVar("T")


class Held(Generic[T]):
    """Outputs by section; at first only the network's input.

    `consumers` are the sections that use each output, once for every use.
    """

    def __init__(self, consumers: Mapping[int, Sequence[int]], image: T) -> None:
        self._uses = {i: len(users) for i, users in consumers.items()}
        self._outputs = {IMAGE: image}

    def inputs(self, layer: Layer) -> list[T]:
        """The outputs that feed a section."""
        return [self._outputs[source] for source in layer.sources]

    def get(self, index: int) -> T | None:
        """The output of a section; None where no other one needs it."""
        return self._outputs.get(index)

    def values(self) -> Iterable[T]:
        """All outputs that are held."""
        return self._outputs.values()

    def keep(self, layer: Layer, output: T | None) -> None:
        """Hold the output of a section if others need it, and free the inputs that it used last.

        `output` is None for a section that is left out.
        """
        index = layer.section.index
        if output is not None and self._uses[index]:
            self._outputs[index] = output
        for source in layer.sources:
            self._uses[source] -= 1
            if not self._uses[source]:
                del self._outputs[source]
