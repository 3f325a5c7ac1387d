"""What each way of pruning without training loses, over how much of a teacher's multiply-accumulates stays.

    python benchmarks/without_training.py TEACHER --train train.csv --held-out rows.csv [--shares 0.8,0.6]

``rows.csv`` is what is scored at the end beside the validation split, and should be unknown to the teacher; nothing is
chosen by it. Ways:

fisher      the mask saliencies of Kwon et al. 2022, what stays is left as it is
relative    optimal brain surgeon, each block's error as a share of its output's variance (as SPDY and ZipLM do)
logits      optimal brain surgeon, each block's error by what it does to the logits
scaled      the same choice of what stays, but each head and neuron that stays is only scaled, by least squares: the
            mask tuning of Kwon et al. 2022, section 4.3, with the moments at hand
rebuilt     as logits, then every layer refitted on what it really gets (what ``method: obs`` does)

Printed for each way and share, in points: drop on validation, the drop expected of it, answers that changed there, drop
and changed answers on the held-out rows, and KL from the teacher on validation, in millinats.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pocketformer.compress.data import DataConfig, prepare_splits, read_test
from pocketformer.compress.encoding import TextEncoding, bucketed_batches, pad_batch, predict_logits
from pocketformer.compress.families import encoder_layers, family_of, head_size, linear_part
from pocketformer.compress.models import label_names_of, load_classifier
from pocketformer.compress.prune.choosing import choose
from pocketformer.compress.prune.config import PruneConfig
from pocketformer.compress.prune.drop_core import expected_drop, fitting_temperature, probabilities
from pocketformer.compress.prune.moments import PRUNED_MAPS, Moments, collect_moments
from pocketformer.compress.prune.obs import cut_and_compensate, map_weights, obs_paths
from pocketformer.compress.prune.obs_core import columns_of
from pocketformer.compress.prune.reconstruction import block_sums, reconstruct
from pocketformer.compress.prune.removal import keep_parts
from pocketformer.compress.prune.saliency_core import LayerChoice
from pocketformer.compress.prune.structure import prune_structure

_MAX_LENGTH = 128


def main() -> None:
    """Cut the teacher in every way, print a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--shares", default="0.8,0.7,0.6,0.5,0.4")
    parser.add_argument("--ways", default="fisher,relative,logits,scaled,rebuilt")
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--ridge", type=float, default=0.01)
    options = parser.parse_args()
    config = DataConfig(train=options.train, test=options.held_out)
    names = label_names_of(options.teacher) or ()
    splits = prepare_splits(config, names)
    test = read_test(config, splits.label_names)
    teacher = load_classifier(options.teacher)
    encoding = TextEncoding(options.teacher, _MAX_LENGTH)
    scored = {
        "validation": (encoding.encode(splits.validation.texts), np.asarray(splits.validation.labels)),
        "held-out": (encoding.encode(test.texts), np.asarray(test.labels)),
    }
    wanted = {name: predict_logits(teacher, rows, encoding.pad_id) for name, (rows, _) in scored.items()}
    temperature = fitting_temperature(wanted["validation"], scored["validation"][1])
    chosen = random.Random(0).sample(range(len(splits.train)), min(options.samples, len(splits.train)))
    rows = encoding.encode([splits.train.texts[index] for index in chosen])
    labels = splits.train.labels or ()
    batches, labelled = [], []
    for indices in bucketed_batches([len(row) for row in rows], 32):
        batches.append(pad_batch([rows[index] for index in indices], encoding.pad_id))
        answers = torch.tensor([labels[chosen[index]] for index in indices])
        labelled.append({**batches[-1], "labels": answers})
    started = time.perf_counter()
    moments = collect_moments(teacher, batches)
    timed = {"moments_s": time.perf_counter() - started}
    paths = obs_paths(teacher, moments)
    timed["paths_s"] = time.perf_counter() - started - timed["moments_s"]
    plain = [
        (_by_variance(of_maps[0], w[0]), _by_variance(of_maps[1], w[1]))
        for of_maps, w in zip(moments, map_weights(teacher), strict=True)
    ]
    relative = obs_paths(teacher, plain)
    sums = block_sums(teacher, batches)
    print(
        json.dumps({name: round(value, 1) for name, value in timed.items()} | {"temperature": temperature}),
        flush=True,
    )

    def made(way: str, share: float) -> Any:
        settings = PruneConfig(allocation="latency", cost=share, samples=options.samples)
        if way == "fisher":
            return prune_structure(teacher, settings, labelled).output
        choices = choose(teacher, relative if way == "relative" else paths, settings, None)
        if way == "scaled":
            return _scaled(teacher, moments, choices)
        smaller = cut_and_compensate(teacher, moments, choices)
        if way == "rebuilt":
            reconstruct(smaller, sums, batches, ridge=options.ridge)
        return smaller

    for share in map(float, options.shares.split(",")):
        for way in options.ways.split(","):
            started = time.perf_counter()
            model = made(way, share)
            seconds = time.perf_counter() - started
            figures: dict[str, float] = {}
            for name, (of, truth) in scored.items():
                logits = predict_logits(model, of, encoding.pad_id)
                before, after = wanted[name].argmax(-1), logits.argmax(-1)
                figures[f"{name} drop"] = 100 * ((before == truth).mean() - (after == truth).mean())
                figures[f"{name} flips"] = 100 * (before != after).mean()
                if name == "validation":
                    expected, error = expected_drop(wanted[name], logits, temperature)
                    p, q = probabilities(wanted[name], 1.0), probabilities(logits, 1.0)
                    figures |= {"expected": 100 * expected, "error": 100 * error}
                    figures["KL"] = 1000 * float((p * np.log((p + 1e-12) / (q + 1e-12))).sum(-1).mean())
            row = {name: round(float(value), 2) for name, value in figures.items()}
            print(json.dumps({"way": way, "share": share, **row, "seconds": round(seconds, 1)}), flush=True)


def _scaled(teacher: Any, moments: Any, choices: Sequence[LayerChoice]) -> Any:
    """Cut, and give each structure that stays the factor with which they together come nearest to the whole output."""
    smaller = copy.deepcopy(teacher)
    keep_parts(smaller, [c.heads for c in choices], [c.neurons for c in choices])
    family = family_of(smaller)
    layers = zip(encoder_layers(smaller, family), moments, map_weights(teacher), choices, strict=True)
    for layer, of_maps, weights, choice in layers:
        kept = (choice.heads, choice.neurons)
        for part, known, weight, stays in zip(PRUNED_MAPS, of_maps, weights, kept, strict=True):
            size = head_size(layer, family) if part == PRUNED_MAPS[0] else 1
            count = weight.shape[1] // size
            # Of the scales s, the error is quadratic: E|sum_j (1 - s_j) W_j x_j|^2 = (1 - s)^T products (1 - s).
            products = (weight.T @ weight) * known.covariance
            products = products.reshape(count, size, count, size).sum(axis=(1, 3))
            rows = products[np.ix_(stays, stays)] + 1e-6 * np.trace(products) / count * np.eye(len(stays))
            scales = np.repeat(np.linalg.solve(rows, products[list(stays)].sum(axis=1)), size)
            columns = columns_of(stays, size)
            linear = linear_part(layer, family, part)
            shift = weight @ known.mean - (weight[:, columns] * scales) @ known.mean[columns]
            with torch.no_grad():
                linear.weight.mul_(torch.from_numpy(scales).float())
                linear.bias.add_(torch.from_numpy(shift).float())
    return smaller


def _by_variance(known: Moments, weight: np.ndarray) -> Moments:
    """The same inputs, and a metric in which the map's whole output has the error 1."""
    variance = float(np.einsum("ij,jk,ik->", weight, known.covariance, weight))
    return replace(known, metric_root=np.eye(len(weight)) / np.sqrt(variance))


if __name__ == "__main__":
    main()
