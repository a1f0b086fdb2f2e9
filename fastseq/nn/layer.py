"""The base of all layers, and the flat buffers that their parameters are views of.

All parameters of a model are in one flat buffer, their gradients in another of the same layout, so
that an optimiser is one pass over two arrays, a norm one sum, a checkpoint one copy. A layer made
by itself has buffers of its own; `joined` gives several layers one pair.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.kernels.core.arrays import ALIGNED, aligned_zeros
from fastseq.kernels.nn import optimisers
from fastseq.nn.arrays import Workspace, as_floats
from fastseq.settings import seed_number
from fastseq.threads import Lock, Team
from fastseq.types import Float32

_LEAST = 65536  # gradients that are worth a thread of their own

Shapes = Mapping[str, tuple[int, ...]]
Views = dict[str, Float32]


class Parameters:
    """Named float32 arrays that are views of one flat buffer, and their gradients.

    Attributes
    ----------
    values, gradients : float32[n]
        The flat buffers. Between two arrays there may be up to 15 floats of padding, always zero
        in both, so that no update changes them.
    views, gradient_views : {name: float32[shape]}
        What the buffers hold, in the order of `shapes`.
    kernels : the module of updates over these buffers
    """

    kernels: ClassVar[Any] = optimisers

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.starts: dict[str, int] = {}
        end = 0
        for name, shape in self.shapes.items():
            self.starts[name] = end
            end += -(-int(np.prod(shape, dtype=np.int64)) // ALIGNED) * ALIGNED
        self.values = aligned_zeros(end)
        self.gradients = aligned_zeros(end)
        self.views = self._views(self.values)
        self.gradient_views = self._views(self.gradients)

    @property
    def count(self) -> int:
        """Number of parameters, without padding."""
        return sum(int(np.prod(shape, dtype=np.int64)) for shape in self.shapes.values())

    def zero_gradients(self) -> None:
        """Set every gradient to zero."""
        self.gradients.fill(0)

    # ---- for optimisers and the training loop, on the CPU or a device

    def zeros(self) -> Any:
        """Another buffer of their size, all zero."""
        return aligned_zeros(len(self.values))

    def get(self, buffer: Any) -> Float32:
        """float32[n], a copy of a buffer in the host's memory."""
        found: Float32 = buffer.copy()
        return found

    def put(self, buffer: Any, values: Float32) -> None:
        """Fill a buffer from float32[n] in the host's memory."""
        np.copyto(buffer, values)

    def square_sum(self, start: int, stop: int, team: Team) -> list[float]:
        """Sums of squares, in float64, of consecutive blocks of gradients[start:stop]."""
        blocks = -(-(stop - start) // optimisers.BLOCK)
        sums = np.empty(blocks)
        parts = team.split(blocks, _LEAST // optimisers.BLOCK)

        def work(part: int) -> None:
            scratch = np.empty(16)
            optimisers.square_sums(sums, scratch, self.gradients, start, stop, *parts[part])

        team.run(work, len(parts))
        return sums.tolist()

    def push(self) -> None:
        """Copy `views` to the device; on the CPU nothing."""

    def pull(self) -> None:
        """Copy the values on the device to `views`; on the CPU nothing."""

    # ---- saving and loading

    def state_dict(self) -> Views:
        """{name: a copy of the array}."""
        return {name: view.copy() for name, view in self.views.items()}

    def load_state_dict(self, state: Mapping[str, Float32]) -> None:
        """Take values from arrays of the same names and shapes, converted to float32.

        Raises
        ------
        FormatError
            A name is missing or not known, an array is of another shape, or it holds no real
            numbers; nothing is changed.
        """
        missing = [name for name in self.shapes if name not in state]
        strange = [name for name in state if name not in self.shapes]
        if missing or strange:
            said = f"lack {missing[0]!r}" if missing else f"hold {strange[0]!r}, which is unknown"
            raise FormatError(f"the weights do not fit this model: they {said}")
        for name, shape in self.shapes.items():
            if tuple(np.shape(state[name])) != shape:
                raise FormatError(
                    f"the weights do not fit this model: {name} is of shape "
                    f"{list(np.shape(state[name]))}, expected {list(shape)}"
                )
            kind = np.asarray(state[name]).dtype
            if kind.kind not in "fiub":
                raise FormatError(
                    f"the weights do not fit this model: {name} is of type {kind}, expected numbers"
                )
        for name, view in self.views.items():
            view[...] = state[name]

    def ranges(self, frozen: Collection[str] = ()) -> list[tuple[int, int]]:
        """Ranges [start, stop) of the buffers that hold the arrays not in `frozen`.

        Adjacent arrays are one range; bounds are multiples of 16. Raises SettingsError for an
        unknown name.
        """
        strange = sorted(set(frozen) - set(self.shapes))
        if strange:
            raise SettingsError(
                f"no parameter is called {strange[0]!r}, there are {', '.join(self)}"
            )
        ends = [*self.starts.values(), len(self.values)][1:]
        found: list[tuple[int, int]] = []
        for (name, start), end in zip(self.starts.items(), ends, strict=True):
            if name in frozen or start == end:
                continue
            if found and found[-1][1] == start:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def _views(self, buffer: Float32) -> Views:
        return {
            name: buffer[start : start + int(np.prod(shape, dtype=np.int64))].reshape(shape)
            for (name, shape), start in zip(self.shapes.items(), self.starts.values(), strict=True)
        }


class Layer:
    """Base of the layers. A subclass sets its sizes, defines `shapes`, then calls the constructor.

    Forward passes with `training=True` keep what `backward` needs; `backward` may be called once
    for each. Gradients of parameters are added to, until `zero_gradients`.

    Several threads may run forward passes with `training=False` at once: a layer with working
    memory runs them one after the other. A training pass and its `backward` belong to one thread.
    """

    buffers: ClassVar[type[Parameters]] = Parameters
    workspace: ClassVar[Any] = Workspace

    values: Views
    grads: Views  # gradients of the values
    _saved: Any = None  # by a forward pass for `backward`

    def __init__(self, seed: int | None = 0) -> None:
        """`seed` of the initial values; None leaves zeros, for a layer whose values follow."""
        self.lock = Lock()
        self.bind(self.buffers(self.shapes()))
        if seed is not None:
            self.initialise(np.random.default_rng(seed_number(seed)))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{name: shape} of the parameters, under PyTorch's names."""
        return {}

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw new values for the parameters."""

    def bind(self, parameters: Parameters, prefix: str = "") -> None:
        """Use the arrays of these parameters named "prefix.name", or "name"."""
        names = {name: _name(prefix, name) for name in self.shapes()}
        self.values = {name: parameters.views[full] for name, full in names.items()}
        self.grads = {name: parameters.gradient_views[full] for name, full in names.items()}

    def parameters(self) -> Views:
        """{name: the array itself}; changes take effect in the next forward pass."""
        return dict(self.values)

    def push(self) -> None:
        """Apply changes of `parameters()`; needed on a device only."""

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

    def release(self) -> None:
        """Free the memory that passes on the CPU reuse, and what a forward pass saved whose
        `backward` will not be called."""
        self._saved = None
        for value in vars(self).values():
            if isinstance(value, Workspace):
                value.clear()

    # ---- arrays of activations, on the device for its layers

    def begin(self, training: bool = True) -> None:
        """Start a pass; needed on a device only."""

    def floats(self, x: Any, what: str) -> Any:
        """`x` as contiguous float32, itself where it is that; else DataError, naming it `what`."""
        return as_floats(x, what)

    def rows(self, x: Any, width: int, what: str) -> Any:
        """`x` as float32[N, width]; DataError where it is of another shape."""
        found = self.floats(x, what)
        if found.ndim != 2 or found.shape[1] != width:
            raise DataError(f"{what} is of shape {list(found.shape)}, expected [N, {width}]")
        return found

    def output(self, name: object, *shape: int, zero: bool = False, reuse: bool = True) -> Any:
        """A float32 array for a result; on a device, with `reuse`, valid until the next of this
        name."""
        return (np.zeros if zero else np.empty)(shape, np.float32)


class Composite(Layer):
    """A layer made of others, with their parameters under "part.name".

    A subclass sets `parts`, {name: layer}, before it calls the constructor; the parameters of a
    part with an empty name keep their names. The parts should be made with a seed of None: their
    values are drawn by `initialise`, one part after the other.
    """

    parts: dict[str, Layer]

    def of_parts(self) -> dict[str, Any]:
        """The settings that a part takes from this layer; on the CPU none."""
        return {}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            _name(prefix, name): shape
            for prefix, part in self.parts.items()
            for name, shape in part.shapes().items()
        }

    def initialise(self, rng: np.random.Generator) -> None:
        for part in self.parts.values():
            part.initialise(rng)

    def bind(self, parameters: Parameters, prefix: str = "") -> None:
        super().bind(parameters, prefix)
        for name, part in self.parts.items():
            part.bind(parameters, _name(prefix, name))

    def release(self) -> None:
        super().release()
        for part in self.parts.values():
            part.release()


def joined(layers: Mapping[str, Layer], buffers: type[Parameters] = Parameters) -> Parameters:
    """One pair of flat buffers for several layers, each bound to its part under "prefix.name".

    The layers keep their values. A layer given under the empty prefix keeps its plain names.
    `buffers` is the class of the result, as in `Layer.buffers`.
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
    return ".".join(filter(None, (prefix, name)))
