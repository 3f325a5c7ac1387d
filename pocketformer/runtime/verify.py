"""Prove a bundle on the device it stands on: signature, hashes, and the golden samples replayed step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from pocketformer.runtime.contents import COPY_AGAIN, Contents, Folder, is_archive
from pocketformer.runtime.errors import PocketformerError, UnavailableError, VerificationError
from pocketformer.runtime.golden import GoldenSample, golden_from_jsonl, softmax
from pocketformer.runtime.manifest import Manifest
from pocketformer.runtime.model import Model, model_from
from pocketformer.runtime.opening import (
    golden_text,
    hash_files,
    manifest_bytes,
    needed_files,
    open_contents,
    wrong_sizes,
)
from pocketformer.runtime.signature import Key, PublicKey

# Between two ways to compute a softmax in double precision from the same logits.
SCORE_TOLERANCE = 1e-6
_SHOWN = 3  # failures that a detail spells out


@dataclass(frozen=True)
class Check:
    """One thing that was checked, whether it holds, and what was seen."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class VerifyReport:
    """All checks that could be made; ``ok`` when every one of them holds."""

    ok: bool
    checks: tuple[Check, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: {"ok": bool, "checks": [{"name", "ok", "detail"}]}."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}


def verify(path: Union[str, Path], *, key: Optional[Key] = None) -> VerifyReport:
    """Check the bundle at ``path``, a directory or an archive.

    In order: with ``key``, the signer's public key, the ``signature`` holds; ``manifest`` can be read; ``files`` are
    all there with their sizes and hashes; ``golden`` samples can be read; ``load`` works; then over all golden samples
    ``tokenizer`` gives the same ids for the texts, the graph for these ids ``logits`` within the manifest's tolerance,
    and the logits the same ``labels`` and scores. A check whose ground is gone is left out: with a key, that is all
    that comes after a signature or a file that is not right. A damaged bundle gives ``ok`` False and never an
    exception; ``InputError`` is raised only when there is nothing at ``path`` or no key in ``key``,
    ``UnavailableError`` when the GPU, driver or library that it asks for is not here.
    """
    public = None if key is None else PublicKey(key)
    place = Path(path)
    if not is_archive(place):
        Folder(place)  # raises when there is none
    checks: list[Check] = []

    def attempt(name: str, work: Callable[[], tuple[Any, str]]) -> Any:
        """Run a check that yields something for later ones; None when it fails."""
        try:
            value, detail = work()
        except UnavailableError:
            raise  # the machine lacks what the bundle asks for, which says nothing of the bundle
        except (PocketformerError, OSError) as error:
            checks.append(Check(name, False, getattr(error, "message", None) or str(error)))
            return None
        checks.append(Check(name, True, detail))
        return value

    def opened() -> tuple[Contents, bytes]:
        contents = open_contents(place, public)
        return contents, manifest_bytes(contents, public)

    found: Optional[tuple[Contents, bytes]] = None
    if public is not None:
        found = attempt("signature", lambda: (opened(), "Ed25519, by the holder of the key"))
        if found is None:
            return VerifyReport(ok=False, checks=tuple(checks))
    read = attempt("manifest", lambda: _manifest(found or opened()))
    if read is not None:
        manifest, contents = read
        contents, wrong = hash_files(contents, manifest, hold=public is not None)
        checks.append(_check("files", wrong, f"{len(manifest.files)} files, sizes and SHA-256 as stated"))
        if wrong and public is not None:
            return VerifyReport(ok=False, checks=tuple(checks))
        samples = attempt("golden", lambda: _golden(contents, manifest))
        model = attempt("load", lambda: _load(contents, manifest))
        if model is not None and samples is not None:
            checks.append(_check_tokenizer(model, samples))
            checks.extend(_check_answers(model, samples))
    return VerifyReport(ok=all(check.ok for check in checks), checks=tuple(checks))


def replay_golden(model: Model, folder: Path) -> list[Check]:
    """The golden samples of the bundle in ``folder`` answered by ``model``, by whatever engine that runs.

    The checks ``logits`` and ``labels`` of ``verify``; ``VerificationError`` when the samples cannot be read.
    """
    return _check_answers(model, _golden(Folder(folder), model.manifest)[0])


def _manifest(opened: tuple[Contents, bytes]) -> tuple[tuple[Manifest, Contents], str]:
    contents, content = opened
    manifest = Manifest.from_bytes(content)
    told = f"schema_version {manifest.schema_version}, {manifest.name}, {manifest.precision}"
    return (manifest, contents), told


def _golden(contents: Contents, manifest: Manifest) -> tuple[list[GoldenSample], str]:
    samples = golden_from_jsonl(golden_text(contents, manifest))
    return samples, f"{len(samples)} samples"


def _load(contents: Contents, manifest: Manifest) -> tuple[Model, str]:
    # Sizes first, as `load` does: a file of another size may be a disk full.
    wrong = wrong_sizes(contents, manifest, needed_files(manifest))
    if wrong:
        raise VerificationError("; ".join(wrong[:_SHOWN]), hint=COPY_AGAIN)
    model = model_from(manifest, contents)
    return model, f"{', '.join(model.engine.providers)}, {len(model.labels)} labels"


def _check_tokenizer(model: Model, samples: Sequence[GoldenSample]) -> Check:
    wrong = []
    for sample in samples:
        ids = tuple(model.encode([sample.text])["input_ids"][0].tolist())
        if ids != sample.input_ids:
            wrong.append(f"{_short(sample.text)} gives ids {list(ids)} instead of {list(sample.input_ids)}")
    return _check("tokenizer", wrong, f"{len(samples)} of {len(samples)} texts give the same ids")


def _check_answers(model: Model, samples: Sequence[GoldenSample]) -> list[Check]:
    """Golden ids to logits, one by one as they were made; logits to label and score.

    With all logits within the tolerance t, the best label can change only where the golden logits of the
    two best are at most 2 t apart; such a change is rounding, not damage, and is told but allowed.
    """
    tolerance = model.manifest.tolerance
    wrong_logits: list[str] = []
    wrong_labels: list[str] = []
    worst = 0.0
    ties = 0
    for sample in samples:
        text = _short(sample.text)
        expected = np.array(sample.logits)
        if expected.shape != (len(model.labels),):
            wrong_logits.append(f"{text} has {len(expected)} golden logits for {len(model.labels)} labels")
            continue
        wrong_labels.extend(f"{text}: {reason}" for reason in _wrong_answer(model.labels, sample))
        try:
            logits = _logits(model, sample)
        except PocketformerError as error:
            wrong_logits.append(f"{text}: {error.message}")
            continue
        difference = float(np.abs(logits - expected).max())
        if not difference <= tolerance:  # not `>`: a NaN must fail
            wrong_logits.append(f"{text} differs by {difference:.3g}")
        worst = max(worst, difference)
        best, answer = int(expected.argmax()), int(logits.argmax())
        if answer != best and expected[best] - expected[answer] > 2.0 * tolerance:
            wrong_labels.append(f"{text} is {model.labels[answer]!r} instead of {sample.label!r}")
        elif answer != best:
            ties += 1
    same = f"{len(samples) - ties} of {len(samples)} labels are the same"
    return [
        _check("logits", wrong_logits, f"largest difference {worst:.3g}, allowed {tolerance:.3g}"),
        _check("labels", wrong_labels, same + (f", {ties} nearly tied within the tolerance" if ties else "")),
    ]


def _logits(model: Model, sample: GoldenSample) -> NDArray[np.float64]:
    """What the graph gives for the golden ids, as a batch of one: float64 [labels]."""
    longest = model.manifest.preprocessing.max_length
    if len(sample.input_ids) > longest:
        # Attention grows with the square of the length: this is no sample, but a way to use up the memory.
        raise VerificationError(
            f"there are {len(sample.input_ids)} golden ids, and max_length is {longest}", hint=COPY_AGAIN
        )
    feeds = model.encoder.feed_ids(sample.input_ids, sample.text)
    logits: NDArray[np.float64] = model.engine.run(feeds)[0].astype(np.float64)
    return logits


def _wrong_answer(labels: Sequence[str], sample: GoldenSample) -> list[str]:
    """What is wrong with the step from the golden logits to the golden label and its score."""
    best = sample.logits.index(max(sample.logits))
    if labels[best] != sample.label:
        return [f"golden label {sample.label!r}, golden logits say {labels[best]!r}"]
    score = softmax(sample.logits, best)
    if sample.score is not None and not abs(score - sample.score) <= SCORE_TOLERANCE:
        return [f"golden score {sample.score:.7g}, golden logits say {score:.7g}"]
    return []


def _check(name: str, wrong: Sequence[str], good: str) -> Check:
    if not wrong:
        return Check(name, True, good)
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return Check(name, False, "; ".join(wrong[:_SHOWN]) + more)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
