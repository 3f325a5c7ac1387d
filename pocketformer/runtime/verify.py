"""Prove a bundle on the device it stands on: hashes, and the golden samples replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np

from pocketformer.runtime.errors import InputError, PocketformerError, UnavailableError
from pocketformer.runtime.golden import GoldenSample, golden_from_jsonl
from pocketformer.runtime.manifest import Manifest, folder_exists, read_manifest, sha256_file
from pocketformer.runtime.model import Model, load

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


def verify(path: Union[str, Path]) -> VerifyReport:
    """Check the bundle in the directory ``path``.

    In order: ``manifest`` can be read; ``files`` are all there with their sizes and hashes; ``golden``
    samples can be read; ``load`` works; then over all golden samples ``tokenizer`` gives the same ids,
    ``logits`` lie within the manifest's tolerance, ``labels`` are the same. A check whose ground is gone
    is left out. A damaged bundle gives ``ok`` False and never an exception; ``InputError`` is raised only
    when ``path`` is no directory, ``UnavailableError`` when the GPU, driver or library that it asks for is not here.
    """
    folder = Path(path)
    if not folder_exists(folder):
        raise InputError(
            f"no bundle at {folder}", hint="Give the directory of a bundle, such as out/bundles/cpu."
        )
    checks: list[Check] = []

    def attempt(name: str, work: Callable[[], tuple[Any, str]]) -> Any:
        """Run a check that yields something for later ones; None when it fails."""
        try:
            value, detail = work()
        except UnavailableError:
            raise  # the machine lacks what the bundle asks for, which says nothing of the bundle
        except (PocketformerError, OSError, UnicodeDecodeError) as error:
            checks.append(Check(name, False, getattr(error, "message", None) or str(error)))
            return None
        checks.append(Check(name, True, detail))
        return value

    manifest = attempt("manifest", lambda: _manifest(folder))
    if manifest is not None:
        checks.append(_check_files(folder, manifest))
        samples = attempt("golden", lambda: _golden(folder, manifest))
        model = attempt("load", lambda: _load(folder))
        if model is not None and samples is not None:
            checks.append(_check_tokenizer(model, samples))
            checks.extend(_check_answers(model, samples))
    return VerifyReport(ok=all(check.ok for check in checks), checks=tuple(checks))


def replay_golden(model: Model, folder: Path) -> list[Check]:
    """The golden samples of the bundle in ``folder`` answered by ``model``, by whatever engine that runs.

    The checks ``logits`` and ``labels`` of ``verify``; ``VerificationError`` when the samples cannot be read.
    """
    return _check_answers(model, _golden(folder, model.manifest)[0])


def _manifest(folder: Path) -> tuple[Manifest, str]:
    manifest = read_manifest(folder)
    return manifest, f"schema_version {manifest.schema_version}, {manifest.name}, {manifest.precision}"


def _golden(folder: Path, manifest: Manifest) -> tuple[list[GoldenSample], str]:
    samples = golden_from_jsonl((folder / manifest.golden_file).read_text(encoding="utf-8"))
    return samples, f"{len(samples)} samples"


def _load(folder: Path) -> tuple[Model, str]:
    model = load(folder)
    return model, f"{', '.join(model.engine.providers)}, {len(model.labels)} labels"


def _check_files(folder: Path, manifest: Manifest) -> Check:
    wrong = []
    for name, entry in manifest.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != entry.bytes:
                wrong.append(f"{name} has {size} bytes instead of {entry.bytes}")
            elif sha256_file(path) != entry.sha256:
                wrong.append(f"{name} has another SHA-256 than the manifest says")
        except OSError as error:
            wrong.append(f"{name} cannot be read: {error.strerror}")
    return _check("files", wrong, f"{len(manifest.files)} files, sizes and SHA-256 as stated")


def _check_tokenizer(model: Model, samples: Sequence[GoldenSample]) -> Check:
    wrong = []
    for sample in samples:
        ids = tuple(model.encode([sample.text])["input_ids"][0].tolist())
        if ids != sample.input_ids:
            wrong.append(f"{_short(sample.text)} gives ids {list(ids)} instead of {list(sample.input_ids)}")
    return _check("tokenizer", wrong, f"{len(samples)} of {len(samples)} texts give the same ids")


def _check_answers(model: Model, samples: Sequence[GoldenSample]) -> list[Check]:
    """Replay the samples one by one, as they were made.

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
        best = int(expected.argmax())
        if model.labels[best] != sample.label:
            wrong_labels.append(
                f"{text}: golden label {sample.label!r}, golden logits say {model.labels[best]!r}"
            )
        try:
            logits = model.logits([sample.text])[0].astype(np.float64)
        except PocketformerError as error:
            wrong_logits.append(f"{text}: {error.message}")
            continue
        difference = float(np.abs(logits - expected).max())
        if not difference <= tolerance:  # not `>`: a NaN must fail
            wrong_logits.append(f"{text} differs by {difference:.3g}")
        worst = max(worst, difference)
        answer = int(logits.argmax())
        if answer != best and expected[best] - expected[answer] > 2.0 * tolerance:
            wrong_labels.append(f"{text} is {model.labels[answer]!r} instead of {sample.label!r}")
        elif answer != best:
            ties += 1
    same = f"{len(samples) - ties} of {len(samples)} labels are the same"
    return [
        _check("logits", wrong_logits, f"largest difference {worst:.3g}, allowed {tolerance:.3g}"),
        _check("labels", wrong_labels, same + (f", {ties} nearly tied within the tolerance" if ties else "")),
    ]


def _check(name: str, wrong: Sequence[str], good: str) -> Check:
    if not wrong:
        return Check(name, True, good)
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return Check(name, False, "; ".join(wrong[:_SHOWN]) + more)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
