"""Each setup's model, made once in its own environment and kept while nothing that it depends on changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence.table import EvidenceError
from evidence.workspace import end_of, run_logged

INSIDE = Path(__file__).parent / "inside"
_LIMIT_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A model that can be loaded. ``key`` names its content; ``ships``: the files that an app must carry."""

    model: Path
    ships: tuple[Path, ...]
    key: str
    how: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def file_mb(self) -> float:
        """All files of the model, the tokenizer apart, in 10^6 bytes."""
        return sum(path.stat().st_size for path in self.ships) / 1e6


def made_artefact(
    folder: Path,
    program: str,
    job: Mapping[str, Any],
    *,
    inputs: Mapping[str, Path] | None = None,
    depends_on: Mapping[str, str],
    python: Path,
    variables: Mapping[str, str],
    say: Callable[[str], None],
    inside: Path = INSIDE,
) -> Artefact:
    """The artefact in ``folder``, made by ``program`` unless it lies there and depends on just the same.

    ``job`` is what the program is asked for; its ``output`` and the places of its ``inputs``, whose contents count and
    not where they lie, are added. ``depends_on`` names everything else that decides the result. ``EvidenceError`` with
    the program's last words when it fails; failures are not kept.
    """
    code = {
        name: _hash(inside / name)
        for name in (program, "job.py", "make_optimum.py")
        if (inside / name).is_file()
    }
    described = json.dumps([job, dict(depends_on), code], sort_keys=True)
    key = hashlib.sha256(described.encode()).hexdigest()[:16]
    kept = _kept(folder, key)
    if kept is not None:
        return kept
    shutil.rmtree(folder, ignore_errors=True)
    output, log = folder / "made", folder / "log.txt"
    output.mkdir(parents=True)
    places = {name: str(path) for name, path in (inputs or {}).items()}
    asked = {**job, **places, "output": str(output)}
    (folder / "job.json").write_text(json.dumps(asked), encoding="utf-8")
    say(f"{folder.name}: {program} ({log})")
    start = time.monotonic()
    exit_code, _ = run_logged(
        [str(python), str(inside / program), str(folder / "job.json")],
        log=log,
        environment=variables,
        folder=output,
        limit_s=_LIMIT_S,
    )
    if exit_code != 0 or not (output / "made.json").is_file():
        raise EvidenceError(f"{program} ended with exit code {exit_code}: {end_of(log)}")
    done = {"key": key, "seconds": time.monotonic() - start}
    (folder / "done.json").write_text(json.dumps(done) + "\n", encoding="utf-8")
    made = _kept(folder, key)
    if made is None:
        raise EvidenceError(f"{program} left no model; see {log}")
    return made


def _kept(folder: Path, key: str) -> Artefact | None:
    try:
        done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        account = json.loads((folder / "made" / "made.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ships = tuple(folder / "made" / name for name in account["ships"])
    if done.get("key") != key or not all(path.is_file() for path in ships):
        return None
    return Artefact(
        model=folder / "made" / account["model"],
        ships=ships,
        key=key,
        how=account["how"] | {"seconds_to_make": round(done["seconds"], 1)},
        versions=account["versions"],
    )


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
