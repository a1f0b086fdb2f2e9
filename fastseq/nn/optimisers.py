"""Optimisers: SGD, Adagrad, RMSprop, Adam and AdamW, in PyTorch's formulas and default values.

Each step is one pass over the flat buffers of `Parameters`, by a team of threads; the result does
not depend on their number. Where gradients are zero (words absent from a batch) SGD without
momentum and Adagrad only read the gradient.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError, SettingsError
from fastseq.kernels.core.arrays import ALIGNED
from fastseq.nn.layer import Parameters
from fastseq.settings import one_of, real
from fastseq.threads import Team

State = dict[str, npt.NDArray[Any]]

LEAST = 32768  # parameters that are worth a thread

LARGEST = 1e30  # rate or decay: products with it must stay finite in float32


class Optimiser(ABC):
    """Base of the optimisers.

    Attributes
    ----------
    learning_rate : of steps without another
    steps : int, number of steps taken
    moments : {name: float32[n]}, in the layout of the parameters' flat buffers
    """

    def __init__(
        self,
        parameters: Parameters,
        learning_rate: float,
        moments: tuple[str, ...],
        frozen: Collection[str],
        team: Team | None,
        weight_decay: float,
        no_decay: Collection[str] = (),
    ) -> None:
        self.parameters = parameters
        self.learning_rate = _between("learning_rate", learning_rate, 0, LARGEST)
        self.steps = 0
        self.team = team or Team(1)
        self.moments: dict[str, Any] = {name: parameters.zeros() for name in moments}
        self._decay = _between("weight_decay", weight_decay, 0, LARGEST)
        # ranges of parameters with weight decay, and without
        self._parts = _parts(parameters, self.team, {*frozen, *no_decay}, LEAST)
        others = set(parameters) - (set(no_decay) - set(frozen))
        self._without_decay = _parts(parameters, self.team, others, LEAST) if no_decay else []

    def step(self, learning_rate: float | None = None) -> None:
        """Update the parameters by their gradients, which do not change.

        Raises SettingsError when `learning_rate` is negative, NaN or 1e30 and more.
        """
        rate = self.learning_rate
        if learning_rate is not None:
            rate = _between("learning_rate", learning_rate, 0, LARGEST)
        self.steps += 1
        kernel, moments, settings = self._kernel(rate, self._decay)
        plain = self._kernel(rate, 0.0)[2] if self._without_decay else settings
        parameters = self.parameters
        step = getattr(parameters.kernels, kernel)
        # kernels do not use a moment that the settings make superfluous
        arrays = [self.moments.get(name, parameters.values) for name in moments]

        parts = [(*part, *settings) for part in self._parts]
        parts += [(*part, *plain) for part in self._without_decay]

        def update(part: int) -> None:
            step(parameters.values, parameters.gradients, *arrays, *parts[part])

        self.team.run(update, len(parts))

    def state(self) -> State:
        """{"steps": int64[], and each moment: float32[n]}, copies: with the parameters, everything
        that the next step depends on."""
        return {
            "steps": np.array(self.steps, np.int64),
            **{name: self.parameters.get(moment) for name, moment in self.moments.items()},
        }

    def load_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore a `state` of parameters of the same names and shapes.

        Raises
        ------
        FormatError
            A name is missing or unknown, a moment is of another size or type, or steps is not a
            count; nothing is changed.
        """
        wanted = {"steps", *self.moments}
        if set(state) != wanted:
            raise FormatError(
                f"the optimiser's state holds {', '.join(sorted(state)) or 'nothing'}, "
                f"expected {', '.join(sorted(wanted))}"
            )
        steps = np.asarray(state["steps"])
        if steps.size != 1 or steps.dtype.kind not in "iuf" or not 0 <= steps.item() < 2**62:
            raise FormatError("the optimiser's state: steps is not a count of steps")
        for name, moment in self.moments.items():
            given = np.asarray(state[name])
            if given.shape != moment.shape or given.dtype != np.float32:
                raise FormatError(
                    f"the optimiser's state: {name} is {given.dtype}{list(given.shape)}, "
                    f"expected float32{list(moment.shape)}"
                )
        self.steps = int(steps.item())
        for name, moment in self.moments.items():
            self.parameters.put(moment, state[name])

    @abstractmethod
    def _kernel(self, rate: float, decay: float) -> tuple[str, tuple[str, ...], tuple[Any, ...]]:
        """The kernel's name, the names of its moments, and its settings for step `self.steps`."""


class SGD(Optimiser):
    """θ -= rate g, with momentum v = momentum v + g, θ -= rate v.

    Parameters
    ----------
    momentum : in [0, 1)
    nesterov : look ahead: θ -= rate (g + momentum v); needs momentum
    weight_decay : L2; weight_decay θ is added to g

    Raises SettingsError for a setting outside of its range, as every optimiser does.
    """

    def __init__(
        self,
        parameters: Parameters,
        learning_rate: float = 1e-3,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        frozen: Collection[str] = (),
        team: Team | None = None,
    ) -> None:
        self._momentum = np.float32(_between("momentum", momentum, 0, 1))
        self._nesterov = bool(nesterov)
        if nesterov and momentum == 0:
            raise SettingsError("nesterov needs a momentum above 0")
        moments = ("velocity",) if momentum else ()
        super().__init__(parameters, learning_rate, moments, frozen, team, weight_decay)

    def _kernel(self, rate: float, decay: float) -> tuple[str, tuple[str, ...], tuple[Any, ...]]:
        settings = np.float32(rate), self._momentum, self._nesterov, np.float32(decay)
        return "sgd_step", ("velocity",), settings


class Adagrad(Optimiser):
    """s += g², θ -= rate g / (√s + eps). Duchi, Hazan and Singer 2011.

    Parameters
    ----------
    eps : above 0
    weight_decay : L2; weight_decay θ is added to g
    """

    def __init__(
        self,
        parameters: Parameters,
        learning_rate: float = 1e-2,
        *,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        frozen: Collection[str] = (),
        team: Team | None = None,
    ) -> None:
        self._eps = _epsilon(eps)
        super().__init__(parameters, learning_rate, ("squares",), frozen, team, weight_decay)

    def _kernel(self, rate: float, decay: float) -> tuple[str, tuple[str, ...], tuple[Any, ...]]:
        return "adagrad_step", ("squares",), (np.float32(rate), self._eps, np.float32(decay))


class RMSprop(Optimiser):
    """s = alpha s + (1 - alpha) g², v = momentum v + g / (√s + eps), θ -= rate v.

    Tieleman and Hinton 2012.

    Parameters
    ----------
    alpha, momentum : in [0, 1)
    eps : above 0
    weight_decay : L2; weight_decay θ is added to g
    """

    def __init__(
        self,
        parameters: Parameters,
        learning_rate: float = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        frozen: Collection[str] = (),
        team: Team | None = None,
    ) -> None:
        alpha = _between("alpha", alpha, 0, 1)
        self._settings = (
            np.float32(alpha),
            np.float32(1 - alpha),
            _epsilon(eps),
            np.float32(_between("momentum", momentum, 0, 1)),
        )
        moments = ("squares", "velocity") if momentum else ("squares",)
        super().__init__(parameters, learning_rate, moments, frozen, team, weight_decay)

    def _kernel(self, rate: float, decay: float) -> tuple[str, tuple[str, ...], tuple[Any, ...]]:
        settings = np.float32(rate), *self._settings, np.float32(decay)
        return "rmsprop_step", ("squares", "velocity"), settings


class Adam(Optimiser):
    """θ -= rate m̂ / (√ŝ + eps) of the moving means m of g and s of g², corrected for their bias.

    Kingma and Ba 2015.

    Parameters
    ----------
    betas : of the two means, in [0, 1)
    eps : above 0
    weight_decay : L2; weight_decay θ is added to g
    no_decay : names of parameters without weight decay, such as biases and norms
    bias_correction : without it, m and s take the place of m̂ and ŝ, as in Google's training of
        BERT (with eps 1e-6)
    """

    DECOUPLED: ClassVar[bool] = False

    def __init__(
        self,
        parameters: Parameters,
        learning_rate: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        no_decay: Collection[str] = (),
        bias_correction: bool = True,
        frozen: Collection[str] = (),
        team: Team | None = None,
    ) -> None:
        if np.shape(betas) != (2,):
            raise SettingsError(f"betas must be two numbers, not {betas!r}")
        self._betas = _between("betas", betas[0], 0, 1), _between("betas", betas[1], 0, 1)
        self._eps = _epsilon(eps)
        self._corrects = bool(bias_correction)
        super().__init__(
            parameters, learning_rate, ("means", "squares"), frozen, team, weight_decay, no_decay
        )

    def _kernel(self, rate: float, decay: float) -> tuple[str, tuple[str, ...], tuple[Any, ...]]:
        beta1, beta2 = self._betas
        steps = self.steps if self._corrects else math.inf
        settings = (
            np.float32(rate / (1 - beta1**steps)),
            np.float32(1 - beta1),
            np.float32(beta2),
            np.float32(1 - beta2),
            np.float32(1 / math.sqrt(1 - beta2**steps)),
            self._eps,
            np.float32(0 if self.DECOUPLED else decay),
            np.float32(rate * decay if self.DECOUPLED else 0),
        )
        return "adam_step", ("means", "squares"), settings


class AdamW(Adam):
    """Adam with decoupled weight decay: θ -= rate weight_decay θ in addition to Adam's step.

    Loshchilov and Hutter 2019. Parameters as Adam's, with a weight_decay of 0.01.
    """

    DECOUPLED: ClassVar[bool] = True

    def __init__(
        self,
        parameters: Parameters,
        learning_rate: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        no_decay: Collection[str] = (),
        bias_correction: bool = True,
        frozen: Collection[str] = (),
        team: Team | None = None,
    ) -> None:
        super().__init__(
            parameters,
            learning_rate,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            no_decay=no_decay,
            bias_correction=bias_correction,
            frozen=frozen,
            team=team,
        )


OPTIMISERS: dict[str, type[Optimiser]] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}


def optimiser(
    name: str,
    parameters: Parameters,
    learning_rate: float | None = None,
    *,
    frozen: Collection[str] = (),
    team: Team | None = None,
    **settings: Any,
) -> Optimiser:
    """The optimiser of that name; a learning rate of None is the optimiser's default.

    Raises
    ------
    SettingsError
        An unknown optimiser or setting, or a setting outside its range.
    """
    check_names(name, settings)
    if learning_rate is not None:
        settings["learning_rate"] = learning_rate
    return OPTIMISERS[name](parameters, frozen=frozen, team=team, **settings)


def check_names(name: str, settings: Collection[str]) -> None:
    """Raise SettingsError for an unknown optimiser, or settings that it does not have."""
    one_of("the optimiser", name, OPTIMISERS)
    given = ("parameters", "learning_rate", "frozen", "team")
    known = [each for each in inspect.signature(OPTIMISERS[name]).parameters if each not in given]
    strange = sorted(set(settings) - set(known))
    if strange:
        raise SettingsError(
            f"{name} has no setting {strange[0]!r}, expected some of {', '.join(known)}"
        )


def _between(name: str, value: float, low: float, high: float) -> float:
    """The setting as a float in [low, high)."""
    return real(name, value, lambda n: low <= n < high, f"at least {low} and below {high:g}")


def _epsilon(value: float) -> np.float32:
    """eps as float32, which must be above 0: zero gradients are divided by it."""
    eps = np.float32(_between("eps", value, 0, math.inf))
    if not 0 < eps < np.inf:
        raise SettingsError(f"eps must be a float32 above 0, not {value!r}")
    return eps


# ---- clipping: Pascanu, Mikolov and Bengio 2013, On the difficulty of training recurrent networks

SMALLEST_LIMIT = 1e-20  # less would scale every gradient to zero


def gradient_norm(parameters: Parameters, team: Team, frozen: Collection[str] = ()) -> float:
    """√Σ g² over the gradients of all parameters except those in `frozen`.

    Summed in float64, in an order that does not depend on the number of threads. Infinite or NaN
    where a gradient is.
    """
    sums = [parameters.square_sum(start, stop, team) for start, stop in parameters.ranges(frozen)]
    return math.sqrt(math.fsum(value for part in sums for value in part))


def clip_norm(
    parameters: Parameters, limit: float, team: Team, frozen: Collection[str] = ()
) -> float:
    """Scale the gradients by limit / (norm + 1e-6) where that is below 1; returns the norm before.

    A norm that is infinite or NaN is returned and nothing is scaled: the caller should stop.
    Raises SettingsError when `limit` is below 1e-20.
    """
    _check(limit)
    norm = gradient_norm(parameters, team, frozen)
    factor = limit / (norm + 1e-6)
    if math.isfinite(norm) and factor < 1:
        _on_gradients(parameters.kernels.scale, factor, parameters, team, frozen)
    return norm


def clip_value(
    parameters: Parameters, limit: float, team: Team, frozen: Collection[str] = ()
) -> None:
    """Clip every gradient to [-limit, limit]; NaN stays NaN.

    Raises SettingsError when `limit` is below 1e-20.
    """
    _check(limit)
    _on_gradients(parameters.kernels.clamp, limit, parameters, team, frozen)


def _on_gradients(
    kernel: Any, value: float, parameters: Parameters, team: Team, frozen: Collection[str]
) -> None:
    narrow = np.float32(value)
    parts = _parts(parameters, team, frozen, 2 * LEAST)
    team.run(lambda part: kernel(parameters.gradients, *parts[part], narrow), len(parts))


def _parts(
    parameters: Parameters, team: Team, frozen: Collection[str], least: int
) -> list[tuple[int, int]]:
    """Ranges of the flat buffers for threads to share."""
    return [
        (start + low, start + high)
        for start, stop in parameters.ranges(frozen)
        for low, high in team.split(stop - start, least, ALIGNED)
    ]


def _check(limit: float) -> None:
    wanted = f"a number of at least {SMALLEST_LIMIT}"
    real("the limit of clipping", limit, lambda n: n >= SMALLEST_LIMIT, wanted)
