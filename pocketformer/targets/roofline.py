"""How much of what this machine can multiply a model uses, and what the rest of its time goes into.

The roof is the best that onnxruntime itself reaches on a product of 2048 x 2048 x 2048 with constant weights, in int8
and in fp32: large enough that nothing but the processor's arithmetic bounds it. The bandwidth of memory stands beside
it. A model's rate is the multiply-accumulates of its products over the median time of a call, and its share that rate
over the roof's: everything that is not a product, and every product too small to run at full rate, lowers it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketformer.runtime.engine import OnnxRuntimeEngine, available_cores
from pocketformer.runtime.errors import InputError
from pocketformer.targets.measure import measure
from pocketformer.targets.operator_profile import ATTENTIONS, PRODUCTS, OperatorCost

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pocketformer.runtime.manifest import SessionSettings

SIZE = 2048
"""Rows, inner size and columns of the products that are the roof."""
# Several times the largest cache of a server's processor.
_COPIED_BYTES = 128_000_000


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """The roof: multiply-accumulates a second by precision ("int8", "fp32"), and bytes a second of a copy in memory."""

    macs_per_s: Mapping[str, float]
    memory_bytes_per_s: float
    size: int = SIZE


@dataclass(frozen=True, kw_only=True)
class Share:
    """One graph on one workload against the roof.

    ``macs`` a call; ``macs_per_s`` at its median latency; ``share`` of the int8 roof; ``time`` by kind of operator, as
    shares of a profiled call ("products", "attention", then other operators by name, the longest first);
    ``product_share`` the rate of what ran in products and attention alone, as a share of the int8 roof.
    """

    macs: int
    macs_per_s: float
    share: float
    product_share: float
    time: Mapping[str, float]


def measure_peaks(
    products: Mapping[str, Path],
    settings: SessionSettings,
    *,
    size: int = SIZE,
    rounds: int = 5,
    copied_bytes: int = _COPIED_BYTES,
) -> Peaks:
    """The fastest of ``rounds`` calls of each product ("int8", "fp32"), graphs of ``a`` [rows, size] x [size, size].

    Raises ``InputError`` without an "int8" product.
    """
    if "int8" not in products:
        raise InputError("no int8 product was given", hint="The roof is that of int8.")
    rng = np.random.default_rng(0)
    feeds: dict[str, dict[str, NDArray[Any]]] = {
        "int8": {"a": rng.integers(0, 256, size=(size, size), dtype=np.uint8)},
        "fp32": {"a": rng.standard_normal((size, size), dtype=np.float32)},
    }
    engines = {name: OnnxRuntimeEngine(path, settings) for name, path in products.items()}
    calls: dict[str, Callable[[None], object]] = {
        name: _bound(engine, feeds[name]) for name, engine in engines.items()
    }
    timed = measure(calls, {"product": [None]}, rounds=rounds, warmup=1)
    # The fastest, for a roof is what can be had: whatever slows a product down must not lift a model's share.
    rates = {name: size**3 / min(by["product"].seconds) for name, by in timed.items()}
    threads = settings.intra_op_threads or available_cores()
    return Peaks(macs_per_s=rates, memory_bytes_per_s=copy_rate(threads, size=copied_bytes), size=size)


def share_of_peak(costs: Sequence[OperatorCost], p50_ms: float, peaks: Peaks) -> Share:
    """A call of ``p50_ms`` milliseconds whose operators cost what a profile says, against the roof."""
    roof = peaks.macs_per_s["int8"]
    macs = sum(cost.macs for cost in costs)
    total = (
        sum(cost.seconds for cost in costs) or 1.0
    )  # a profile counts in microseconds: none may have passed
    time: dict[str, float] = {"products": 0.0, "attention": 0.0}
    for cost in costs:
        kind = (
            "products" if cost.operator in PRODUCTS else "attention" if cost.operator in ATTENTIONS else None
        )
        if kind is not None:
            time[kind] += cost.seconds / total
        else:
            time[cost.operator] = cost.seconds / total
    multiplying = (time["products"] + time["attention"]) * p50_ms / 1e3
    rate = macs / (p50_ms / 1e3)
    return Share(
        macs=macs,
        macs_per_s=rate,
        share=rate / roof,
        product_share=macs / multiplying / roof if multiplying > 0 else 0.0,
        time={name: min(1.0, value) for name, value in time.items() if value > 0},
    )


def copy_rate(threads: int, *, size: int = _COPIED_BYTES, repeats: int = 3) -> float:
    """Bytes read and written a second when ``threads`` threads copy ``size`` bytes together: the best repeat."""
    source, target = np.ones(size, dtype=np.uint8), np.zeros(size, dtype=np.uint8)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    best = float("inf")
    for _ in range(repeats):
        copies = [threading.Thread(target=np.copyto, args=(to, of)) for of, to in parts]
        start = perf_counter()
        for copy in copies:
            copy.start()
        for copy in copies:
            copy.join()
        best = min(best, perf_counter() - start)
    return 2 * size / best


def _bound(engine: OnnxRuntimeEngine, feeds: dict[str, NDArray[Any]]) -> Callable[[None], object]:
    return lambda _: engine.run(feeds)


def bound_by(share: Share) -> str:
    """What takes most of the time, in a sentence: arithmetic, products below full rate, or what is no product."""
    multiplying = share.time.get("products", 0.0) + share.time.get("attention", 0.0)
    slow = max(0.0, multiplying - share.share)
    parts = {
        "arithmetic": share.share,
        "products below full rate": slow,
        "operators between the products": 1.0 - multiplying,
    }
    worst = max(parts, key=lambda name: parts[name])
    others = [name for name in share.time if name not in ("products", "attention")][:2]
    named = ", ".join(f"{name} {share.time[name]:.0%}" for name in others)
    return (
        f"{worst}: products and attention take {multiplying:.0%} of the time, at {share.product_share:.0%} of the roof"
        + (f"; then {named}" if named else "")
    )
