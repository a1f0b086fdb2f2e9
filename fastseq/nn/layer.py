"""What every layer is: named parameters with gradients, a forward and a backward pass.

A layer made alone has buffers of its own. `joined` gives several layers one pair of flat buffers,
under prefixed names, and each goes on working on views of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from fastseq.nn.parameters import Parameters, Views
from fastseq.settings import seed_number
from fastseq.threads import Lock
from fastseq.types import Float32


class Layer:
    """Base of the layers. A subclass sets its sizes, says `shapes`, then calls `super().__init__`.

    Forward passes with `training=True` keep what `backward` needs; `backward` may be called once
    for each. Gradients of parameters are added to, until `zero_gradients`.

    Several threads may run forward passes with `training=False` at once: a layer with working
    memory lets them run one after the other. A training pass and its `backward` are one thread's.
    """

    buffers: ClassVar[type[Parameters]] = Parameters  # what its parameters lie in

    values: Views
    grads: Views  # gradients of the values

    def __init__(self, seed: int = 0) -> None:
        self.lock = Lock()
        self.bind(self.buffers(self.shapes()))
        self.initialise(np.random.default_rng(seed_number(seed)))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{name: shape} of the parameters, under PyTorch's names."""
        return {}

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw new values for the parameters."""

    def bind(self, parameters: Parameters, prefix: str = "") -> None:
        """Work from now on with arrays of these: those named "prefix.name", or "name"."""
        names = {name: _name(prefix, name) for name in self.shapes()}
        self.values = {name: parameters.views[full] for name, full in names.items()}
        self.grads = {name: parameters.gradient_views[full] for name, full in names.items()}

    def parameters(self) -> Views:
        """{name: the array itself}; what is written to it is used from the next forward pass."""
        return dict(self.values)

    def push(self) -> None:
        """Use from now on what was written to `parameters()`; only layers on a device need it."""

    def gradients(self) -> Views:
        """{name: the gradient array itself}, of the shape of the parameter."""
        return dict(self.grads)

    def zero_gradients(self) -> None:
        """Set every gradient to zero."""
        for gradient in self.grads.values():
            gradient.fill(0)

    def state_dict(self) -> Views:
        """{name: a copy of the array}."""
        return {name: value.copy() for name, value in self.values.items()}

    def load_state_dict(self, state: Mapping[str, Float32]) -> None:
        """Take values from arrays of the same names and shapes.

        Raises FormatError when a name is missing or not known or a shape differs.
        """
        checked = Parameters(self.shapes())
        checked.load_state_dict(state)
        for name, value in self.values.items():
            value[...] = checked.views[name]


def joined(layers: Mapping[str, Layer], buffers: type[Parameters] = Parameters) -> Parameters:
    """One pair of flat buffers for several layers, each bound to its part under "prefix.name".

    The layers keep their values. A layer given under the empty prefix keeps its plain names.
    `buffers` is what all of them work with, as their own `buffers` have it.
    """
    shapes = {
        _name(prefix, name): shape
        for prefix, layer in layers.items()
        for name, shape in layer.shapes().items()
    }
    parameters = buffers(shapes)
    for prefix, layer in layers.items():
        for name, value in layer.values.items():
            parameters.views[_name(prefix, name)][...] = value
        layer.bind(parameters, prefix)
    parameters.push()
    return parameters


def _name(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
