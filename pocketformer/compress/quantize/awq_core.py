"""AWQ: inputs that are large get finer weights, pure maths: numpy arrays in, arrays out.

X W = (X / s)(s W) for any s > 0 with one entry for each input. Rounding s W instead of W makes the error of input k
smaller by s_k. AWQ (Lin et al. 2023, section 3.2) takes s = a^alpha with a the size of each input, and searches alpha
in [0, 1] for the least cost; here a is the root of the mean square, and the cost is exact for the given second moments:
tr(D^T H D) with D = W - Q(s W) / s, summed over the products that read the same input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
_STEPS = 20


def awq_scales(
    weights: Sequence[FloatArray],
    moments: FloatArray,
    quantized: Callable[[FloatArray], FloatArray],
) -> FloatArray:
    """The scales s [K] for weights [K, N_i]; ``quantized`` gives what the codes of a matrix stand for.

    alpha = 0, which changes nothing, is among those tried: the result never costs more than no scales.
    """
    size = np.sqrt(np.maximum(np.diag(moments), 0))
    size = np.maximum(size, max(float(size.max()), 1e-12) * 1e-4)
    best, least = np.ones(len(size)), np.inf
    for alpha in np.linspace(0.0, 1.0, _STEPS, endpoint=False):
        scales = size**alpha
        scales /= np.sqrt(scales.max() * scales.min())
        cost = 0.0
        for weight in weights:
            difference = weight - quantized(weight * scales[:, None]) / scales[:, None]
            cost += float((difference * (moments @ difference)).sum())
        if cost < least:
            best, least = scales, cost
    return best
