"""Representing many vectors by few: k-means on the sphere beside centres that must stay, in blocked numpy.

Spherical k-means (Dhillon, Modha: "Concept Decompositions for Large Sparse Text Data Using Clustering",
Machine Learning 42, 2001): rows are compared by cosine similarity, and a centre is the direction of its
members' mean. Here some centres are given and fixed (embeddings that stay); a row joins whichever is nearest,
fixed or free, and the free centres move to represent the rows that no fixed one represents better:

    c_j <- normalise( sum of normalised rows x_i with  cos(x_i, c_j) > max over fixed f of cos(x_i, f) )

Lloyd's iteration costs rows x free centres x dimensions; the rows' similarity to the fixed centres is
computed once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
_BLOCK = 1024  # rows compared at once: 1024 x 12000 similarities take 49 MB


@dataclass(frozen=True)
class Clustering:
    """How rows are represented.

    ``centres`` [k, d]: means of the members' rows as given (not normalised). ``assignment`` [n]: for each row
    0..m-1 a fixed row, m..m+k-1 centre ``assignment - m``. ``similarity`` [n]: the cosine to what it joined.
    """

    centres: Floats
    assignment: Integers
    similarity: Floats


def nearest(rows: Floats, centres: Floats) -> tuple[Integers, Floats]:
    """Index and dot product of the centre with the highest dot product: [n, d], [m, d] -> [n], [n].

    Without centres every index is 0 and every similarity minus infinity.
    """
    index = np.zeros(len(rows), dtype=np.int64)
    best = np.full(len(rows), -np.inf, dtype=np.float32)
    if len(centres) == 0:
        return index, best
    transposed = np.ascontiguousarray(centres.T)
    for start in range(0, len(rows), _BLOCK):
        similarity = rows[start : start + _BLOCK] @ transposed
        block = similarity.argmax(axis=1)
        index[start : start + _BLOCK] = block
        best[start : start + _BLOCK] = similarity[np.arange(len(block)), block]
    return index, best


def cluster_rows(
    rows: Floats, fixed: Floats, clusters: int, *, iterations: int = 2, seed: int = 0
) -> Clustering:
    """Represent ``rows`` [n, d] by ``fixed`` [m, d] and by ``clusters`` new centres (at most n).

    The first centres are rows drawn with a probability that grows with their distance to the fixed ones. No
    centre is left without a member: an empty one takes the row that is worst represented. The same seed gives
    the same result. Raises ``ValueError`` when there is nothing that could represent a row.
    """
    count, dimensions = rows.shape
    clusters = min(clusters, count)
    if count and clusters < 1 and len(fixed) == 0:
        raise ValueError("neither fixed rows nor clusters")
    unit = _normalised(rows)
    fixed_index, fixed_similarity = nearest(unit, _normalised(fixed))
    if clusters < 1:
        return Clustering(np.zeros((0, dimensions), dtype=np.float32), fixed_index, fixed_similarity)
    generator = np.random.default_rng(seed)
    # A row that equals a fixed one needs no centre; the small addition keeps it drawable when nothing else is
    # left.
    weight = np.maximum(1.0 - np.maximum(fixed_similarity, -1.0).astype(np.float64), 0.0) + 1e-9
    first = generator.choice(count, size=clusters, replace=False, p=weight / weight.sum())
    centres = unit[first]
    for _ in range(iterations):
        joined, similarity = _join(unit, centres, fixed_similarity)
        centres = _normalised(_means(unit, joined, clusters))
    joined, similarity = _join(unit, centres, fixed_similarity)
    free = joined >= 0
    return Clustering(
        centres=_means(rows, joined, clusters),
        assignment=np.where(free, joined + len(fixed), fixed_index),
        similarity=similarity,
    )


def _normalised(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), dtype=np.float32)


def _join(unit: Floats, centres: Floats, fixed_similarity: Floats) -> tuple[Integers, Floats]:
    """The centre that each row joins (-1: its fixed row is nearer) and the similarity; every centre gets a
    row."""
    index, similarity = nearest(unit, centres)
    joined = np.where(similarity > fixed_similarity, index, -1)
    similarity = np.maximum(similarity, fixed_similarity)
    members = np.bincount(joined[joined >= 0], minlength=len(centres))
    worst = iter(np.argsort(similarity, kind="stable"))
    for empty in np.flatnonzero(members == 0):
        # There are at most as many centres as rows, so a row that is not alone in its centre is always left.
        row = next(r for r in worst if joined[r] < 0 or members[joined[r]] > 1)
        if joined[row] >= 0:
            members[joined[row]] -= 1
        joined[row], similarity[row], members[empty] = empty, 1.0, 1
    return joined, similarity


def _means(rows: Floats, joined: Integers, clusters: int) -> Floats:
    """Mean of each centre's members: sorted by centre, then summed run by run (much faster than
    scattering)."""
    free = np.flatnonzero(joined >= 0)
    order = free[np.argsort(joined[free], kind="stable")]
    members = np.bincount(joined[free], minlength=clusters)
    starts = np.concatenate([[0], np.cumsum(members)[:-1]])
    sums = np.add.reduceat(rows[order], starts, axis=0)
    return np.asarray(sums / members[:, None], dtype=np.float32)
