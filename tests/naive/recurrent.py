"""Recurrent layers in float64, step by step over a padded batch, with backpropagation by hand.

Parameters are a dict under PyTorch's names. Rows past a sequence's end are masked: their state is
carried on unchanged, in both directions, and their output is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray
Named = Mapping[str, Array]

GATES = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}


@dataclass
class Pass:
    """A forward pass: its results, and every step for the backward pass.

    y : [T, B, D·H]; h, c : last states [L·D, B, H] (c of zeros where the cell has none)
    """

    kind: str
    lengths: Array
    y: Array
    h: Array
    c: Array
    weights: dict[str, Array]
    masks: Named
    inputs: list[Array] = field(default_factory=list)
    steps: list[list[dict[str, Array]]] = field(default_factory=list)


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def cell_forward(kind: str, x: Array, h: Array, c: Array, w: Named) -> dict[str, Array]:
    """One step of a batch: x [B, I], h, c [B, H]; all that was computed, by name."""
    a = x @ w["ih"].T + w["bih"]
    b = h @ w["hh"].T + w["bhh"]
    step = {"x": x, "h0": h, "c0": c, "c": c}
    if kind == "lstm":
        i, f, g, o = np.split(a + b, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        new = f * c + i * g
        return {**step, "i": i, "f": f, "g": g, "o": o, "c": new, "h": o * np.tanh(new)}
    if kind == "gru":
        (ar, az, an), (br, bz, bn) = np.split(a, 3, axis=1), np.split(b, 3, axis=1)
        r, z = sigmoid(ar + br), sigmoid(az + bz)
        n = np.tanh(an + r * bn)
        return {**step, "r": r, "z": z, "n": n, "m": bn, "h": (1 - z) * n + z * h}
    return {**step, "h": np.tanh(a + b) if kind == "tanh" else np.maximum(a + b, 0)}


def cell_backward(kind: str, s: Named, dh: Array, dc: Array) -> tuple[Array, Array, Array, Array]:
    """From the gradients of the new h and c: those of a = W x + b and b = U h' + b, and what
    reaches h' with b, and c'."""
    if kind == "lstm":
        t = np.tanh(s["c"])
        dc = dc + dh * s["o"] * (1 - t * t)
        da = np.concatenate(
            [
                dc * s["g"] * s["i"] * (1 - s["i"]),
                dc * s["c0"] * s["f"] * (1 - s["f"]),
                dc * s["i"] * (1 - s["g"] ** 2),
                dh * t * s["o"] * (1 - s["o"]),
            ],
            axis=1,
        )
        return da, da, np.zeros_like(dh), dc * s["f"]
    if kind == "gru":
        dn = dh * (1 - s["z"]) * (1 - s["n"] ** 2)
        dz = dh * (s["h0"] - s["n"]) * s["z"] * (1 - s["z"])
        dr = dn * s["m"] * s["r"] * (1 - s["r"])
        return (
            np.concatenate([dr, dz, dn], axis=1),
            np.concatenate([dr, dz, dn * s["r"]], axis=1),
            dh * s["z"],
            dc,
        )
    da = dh * (1 - s["h"] ** 2) if kind == "tanh" else dh * (s["h"] > 0)
    return da, da, np.zeros_like(dh), dc


def order(T: int, backwards: bool) -> Iterator[int]:
    return iter(range(T - 1, -1, -1) if backwards else range(T))


def suffixes(layers: int, bidirectional: bool) -> list[list[str]]:
    """Of the parameters' names: [layer][direction]."""
    return [[f"l{n}", f"l{n}_reverse"][: 1 + bidirectional] for n in range(layers)]


def weights_of(parameters: Named, masks: Named, suffix: str) -> dict[str, Array]:
    recurrent = f"weight_hh_{suffix}"
    return {
        "ih": parameters[f"weight_ih_{suffix}"],
        "hh": parameters[recurrent] * masks.get(recurrent, 1.0),
        "bih": parameters[f"bias_ih_{suffix}"],
        "bhh": parameters[f"bias_hh_{suffix}"],
    }


def forward(
    kind: str,
    parameters: Named,
    x: Array,
    lengths: Array,
    h: Array,
    c: Array,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    masks: Named | None = None,
) -> Pass:
    """Run x [T, B, I] from the initial states h, c [L·D, B, H].

    masks : factors of "weight_hh_…" and of "input_l1", … [T, B, D·H], the input of that layer
    """
    masks = masks or {}
    T, B, _ = x.shape
    names = suffixes(layers, bidirectional)
    last_h, last_c = np.array(h, np.float64), np.array(c, np.float64)
    run = Pass(kind, np.asarray(lengths), x, last_h, last_c, dict(parameters), masks)
    running = (np.arange(T)[:, None] < run.lengths)[:, :, None]  # [T, B, 1]
    rows = np.where(running, x, 0)
    for layer, directions in enumerate(names):
        rows = rows * masks.get(f"input_l{layer}", 1.0)
        run.inputs.append(rows)
        outputs = []
        for d, suffix in enumerate(directions):
            w = weights_of(parameters, masks, suffix)
            at = layer * len(directions) + d
            state, memory = np.array(last_h[at]), np.array(last_c[at])
            output = np.zeros((T, B, h.shape[2]))
            steps: list[dict[str, Array]] = [{}] * T
            for t in order(T, backwards=d == 1):
                step = cell_forward(kind, rows[t], state, memory, w)
                steps[t] = step
                state = np.where(running[t], step["h"], state)
                memory = np.where(running[t], step["c"], memory)
                output[t] = np.where(running[t], step["h"], 0)
            last_h[at], last_c[at] = state, memory
            run.steps.append(steps)
            outputs.append(output)
        rows = np.concatenate(outputs, axis=2)
    run.y = rows
    return run


def backward(run: Pass, dy: Array, dh: Array, dc: Array) -> dict[str, Any]:
    """Gradients, from those of y, h and c: {name of a parameter, "x", "h", "c": array}."""
    T = len(dy)
    layers = len(run.inputs)
    directions = len(run.steps) // layers
    names = suffixes(layers, directions == 2)
    running = (np.arange(T)[:, None] < run.lengths)[:, :, None]
    found: dict[str, Any] = {name: np.zeros_like(w) for name, w in run.weights.items()}
    found["h"], found["c"] = np.array(dh), np.array(dc)
    above = np.where(running, dy, 0)
    for layer in reversed(range(layers)):
        below = np.zeros_like(run.inputs[layer])
        for d, suffix in enumerate(names[layer]):
            w = weights_of(run.weights, run.masks, suffix)
            at = layer * directions + d
            H = w["hh"].shape[1]
            state, memory = found["h"][at], found["c"][at]
            for t in order(T, backwards=d == 0):
                step = run.steps[at][t]
                whole = state + above[t, :, d * H : (d + 1) * H]
                da, db, dh0, dc0 = cell_backward(run.kind, step, whole, memory)
                da, db = da * running[t], db * running[t]
                found[f"weight_ih_{suffix}"] += da.T @ step["x"]
                found[f"bias_ih_{suffix}"] += da.sum(axis=0)
                found[f"weight_hh_{suffix}"] += db.T @ step["h0"]
                found[f"bias_hh_{suffix}"] += db.sum(axis=0)
                below[t] += da @ w["ih"]
                state = np.where(running[t], db @ w["hh"] + dh0, state)
                memory = np.where(running[t], dc0, memory)
            found["h"][at], found["c"][at] = state, memory
            recurrent = f"weight_hh_{suffix}"
            found[recurrent] = found[recurrent] * run.masks.get(recurrent, 1.0)
        above = below * run.masks.get(f"input_l{layer}", 1.0)
    found["x"] = above
    return found


def drawn(
    kind: str, inputs: int, units: int, layers: int, bidirectional: bool, rng: np.random.Generator
) -> dict[str, Array]:
    """Parameters of such a layer, of a size that lets gates be neither shut nor open."""
    height = GATES[kind] * units
    found = {}
    for layer, directions in enumerate(suffixes(layers, bidirectional)):
        width = inputs if layer == 0 else units * len(directions)
        for suffix in directions:
            found[f"weight_ih_{suffix}"] = rng.normal(0, width**-0.5, (height, width))
            found[f"weight_hh_{suffix}"] = rng.normal(0, units**-0.5, (height, units))
            found[f"bias_ih_{suffix}"] = rng.normal(0, 0.5, height)
            found[f"bias_hh_{suffix}"] = rng.normal(0, 0.5, height)
    return found
