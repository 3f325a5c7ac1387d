"""Removing inputs of a linear map so that its output changes least: arrays in, arrays out.

Sources: Hassibi and Stork 1993 (optimal brain surgeon); Frantar and Alistarh 2022, "Optimal Brain Compression",
arXiv:2208.11580, algorithm 1; Kurtic, Frantar and Alistarh 2023, "ZipLM", arXiv:2302.04089, section 3.1, for whole
structures (all columns of a head, or the one column of a neuron).

Let y = W x + b with W [outputs, inputs], and let C be the covariance of x over many tokens. Setting the columns S of
W to zero and changing the other columns and b as well as can be raises the mean squared error of y by

    rise(S) = tr( W_S (C^-1_SS)^-1 W_S^T ),      W <- W - W_S (C^-1_SS)^-1 C^-1_S:

The covariance stands where the papers have the mean of x x^T, because the bias may change with the weights: after it
has taken up b <- b + (W_old - W_new) mean(x), only what varies is left to be fitted. The inverse for what remains
follows without another inversion, C^-1 <- C^-1 - C^-1_:S (C^-1_SS)^-1 C^-1_S:, so the structures go one by one, each
time the one with the smallest rise (``removal_path``).

The weights after many removals are those of one least-squares fit on the columns that stay (``least_squares``), so a
path need not carry them: its order and its errors are enough, and the fit is made for the level that is taken. The same
fit takes other targets than the map's own old output, such as what makes up for errors in the layers before it.

Outputs need not count alike: with ``weight`` multiplied from the left by a root of a metric M, errors are those of
tr(M dy dy^T). The fit is the same for any M; which structure goes first is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# Removals whose effect on the inverse is summed up before it is written: one pass over a large matrix for many.
_DEFERRED = 32


@dataclass(frozen=True, kw_only=True)
class RemovalPath:
    """The order in which structures go, the least needed first, and ``errors`` [structures + 1].

    ``errors[k]`` is the mean squared error of the output, summed over outputs, once the first k of ``order`` are gone
    and the rest makes up for it; it rises from 0 to the variance of the map's output.
    """

    order: tuple[int, ...]
    errors: Floats

    def kept(self, count: int) -> tuple[int, ...]:
        """The ``count`` structures that stay longest, ascending."""
        return tuple(sorted(self.order[len(self.order) - count :]))

    def error(self, count: int) -> float:
        """The error when ``count`` structures stay."""
        return float(self.errors[len(self.order) - count])


def damped(covariance: npt.NDArray[np.floating], share: float) -> Floats:
    """The covariance with ``share`` of its mean diagonal added to the diagonal, so that it can be inverted."""
    matrix = np.array(covariance, dtype=np.float64)
    matrix[np.diag_indices_from(matrix)] += share * float(np.trace(matrix)) / len(matrix) + 1e-12
    return matrix


def removal_path(weight: npt.NDArray[np.floating], covariance: Floats, size: int = 1) -> RemovalPath:
    """Remove one structure after another, always the one whose loss costs least.

    ``weight`` [outputs, inputs]; ``covariance`` [inputs, inputs], positive definite (see ``damped``); each structure is
    ``size`` neighbouring inputs. Cubic in the inputs. Raises ``ValueError`` where the shapes do not fit.
    """
    inputs = weight.shape[1]
    if covariance.shape != (inputs, inputs) or inputs % size:
        raise ValueError(f"weight {weight.shape}, covariance {covariance.shape}, structures of {size}")
    current = np.array(weight, dtype=np.float64)
    inverse = np.linalg.inv(np.asarray(covariance, dtype=np.float64))
    inverse = (inverse + inverse.T) / 2
    return _single_inputs(current, inverse) if size == 1 else _blocks(current, inverse, size)


def _blocks(weight: Floats, inverse: Floats, size: int) -> RemovalPath:
    present = list(range(weight.shape[1] // size))
    order: list[int] = []
    errors = [0.0]
    while present:
        blocks = [slice(at * size, (at + 1) * size) for at in range(len(present))]
        shifts = [np.linalg.solve(inverse[block, block], weight[:, block].T).T for block in blocks]
        rises = [float(np.sum(shift * weight[:, block])) for shift, block in zip(shifts, blocks, strict=True)]
        best = int(np.argmin(rises))
        gone = blocks[best]
        weight = weight - shifts[best] @ inverse[gone, :]
        inverse = inverse - inverse[:, gone] @ np.linalg.solve(inverse[gone, gone], inverse[gone, :])
        stays = np.r_[0 : gone.start, gone.stop : weight.shape[1]]
        weight, inverse = weight[:, stays], inverse[np.ix_(stays, stays)]
        order.append(present.pop(best))
        errors.append(errors[-1] + max(0.0, rises[best]))
    return RemovalPath(order=tuple(order), errors=np.asarray(errors))


def _single_inputs(weight: Floats, inverse: Floats) -> RemovalPath:
    """The same for structures of one input, where a removal changes weight and inverse by a product of two vectors.

    With u = C^-1_s: / sqrt(C^-1_ss) and v = W_s / sqrt(C^-1_ss): W <- W - v u, C^-1 <- C^-1 - u^T u, and the rise is
    |v|^2. These products are kept for up to ``_DEFERRED`` removals; the diagonal of the inverse and the columns' norms,
    from which the next one is chosen, are brought up to date at once.
    """
    names = np.arange(weight.shape[1])
    order: list[int] = []
    errors = [0.0]
    while names.size:
        steps = min(_DEFERRED, names.size)
        changes = np.zeros((steps, names.size))  # u of each removal
        shares = np.zeros((weight.shape[0], steps))  # v of each removal
        least = 1e-12 * float(inverse.diagonal().max())
        diagonal = np.maximum(inverse.diagonal(), least)
        norms = np.einsum("ij,ij->j", weight, weight)
        stays = np.ones(names.size, dtype=bool)
        for step in range(steps):
            rises = np.where(stays, norms / np.maximum(diagonal, 1e-300), np.inf)
            gone = int(np.argmin(rises))
            root = np.sqrt(diagonal[gone])
            change = (inverse[gone] - changes[:step, gone] @ changes[:step]) / root
            share = (weight[:, gone] - shares[:, :step] @ changes[:step, gone]) / root
            along = share @ weight - (share @ shares[:, :step]) @ changes[:step]  # v^T W, column by column
            rise = float(share @ share)
            norms = np.maximum(norms - 2 * change * along + np.square(change) * rise, 0.0)
            # Where structures nearly repeat each other, cancellation would leave it at or below nothing.
            diagonal = np.maximum(diagonal - np.square(change), least)
            changes[step], shares[:, step] = change, share
            stays[gone] = False
            order.append(int(names[gone]))
            errors.append(errors[-1] + rise)
        weight = (weight - shares @ changes)[:, stays]
        # Rounding errors of a matrix that is meant to be symmetric grow when it no longer is.
        inverse = inverse[np.ix_(stays, stays)] - changes[:, stays].T @ changes[:, stays]
        names = names[stays]
    return RemovalPath(order=tuple(order), errors=np.asarray(errors))


def columns_of(structures: tuple[int, ...], size: int) -> npt.NDArray[np.int64]:
    """The inputs that belong to these structures of ``size`` neighbouring inputs each, in their order."""
    first = np.asarray(structures, dtype=np.int64)[:, None] * size
    return np.asarray((first + np.arange(size)).ravel(), dtype=np.int64)


def least_squares(cross: Floats, covariance: Floats, prior: Floats, ridge: float = 0.0) -> Floats:
    """Weights [outputs, inputs] that predict a target from inputs: argmin E|t - V x|^2 + ridge |V - prior|^2.

    ``cross`` [outputs, inputs] is the covariance of target and inputs, ``covariance`` that of the inputs. Where few
    tokens were seen, what they do not decide stays as in ``prior``. Solves one symmetric system.
    """
    matrix = np.array(covariance, dtype=np.float64)
    matrix[np.diag_indices_from(matrix)] += ridge
    return np.asarray(np.linalg.solve(matrix, (cross + ridge * prior).T).T)


def compensated(weight: Floats, covariance: Floats, kept: npt.NDArray[np.int64]) -> Floats:
    """The weights [outputs, kept] that give the map's old output best from the inputs that stay: W C_:K (C_KK)^-1."""
    rows = covariance[:, kept]
    return least_squares(weight @ rows, rows[kept], weight[:, kept])
