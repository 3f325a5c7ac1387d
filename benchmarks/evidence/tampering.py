"""Seeded mutations of a signed bundle: bytes flipped, put in, taken out, cut off; files of another."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketformer.export.signing import sign_bundle
from pocketformer.runtime.manifest import MANIFEST_FILE, file_entry
from pocketformer.runtime.signature import SIGNATURE_FILE

# By what the issue of a bundle's trust hangs on: the graph, what describes it, the tokenizer, the proof, the signature.
CLASSES: Mapping[str, str] = {
    "model": "model.onnx",
    "manifest": MANIFEST_FILE,
    "tokenizer": "tokenizer.json",
    "golden": "golden.jsonl",
    "signature": SIGNATURE_FILE,
}
_LONGEST_RUN = 64


@dataclass(frozen=True)
class Mutation:
    """What is done, to which class, and the files that are then other ones, by name."""

    kind: str
    of: str
    files: Mapping[str, bytes]


def mutations(signed: Path, other: Path, count: int, *, seed: int = 0) -> Iterator[Mutation]:
    """``count`` mutations, the classes and kinds in turn; ``other`` is another bundle, signed with the same key."""
    rng = random.Random(seed)
    kinds: list[tuple[str, Callable[[bytes, random.Random], bytes]]] = [
        ("flip", _flip), ("insert", _insert), ("delete", _delete), ("truncate", _truncate),
    ]  # fmt: skip
    names = list(CLASSES)
    for index in range(count):
        of = names[index % len(names)]
        turn = index // len(names) % (len(kinds) + 2)
        name = CLASSES[of]
        if turn < len(kinds):
            kind, change = kinds[turn]
            yield Mutation(kind, of, {name: change((signed / name).read_bytes(), rng)})
        elif turn == len(kinds):
            yield Mutation("swap", of, {name: (other / name).read_bytes()})
        else:
            yield Mutation("restate", of, _restated(signed, name, rng))


def another_bundle(signed: Path, folder: Path, private_key: Path) -> Path:
    """A bundle as good as ``signed`` in which every file is another, signed with the same key."""
    shutil.copytree(signed, folder)
    # An empty documentation text more, by the wire format; one space more; one sample fewer.
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"\x32\x05other")
    (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes() + b"\n")
    lines = (folder / "golden.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "golden.jsonl").write_bytes(b"".join(lines[:-1]))
    path = folder / MANIFEST_FILE
    document = json.loads(path.read_text(encoding="utf-8"))
    document["files"] = {name: vars(file_entry(folder / name)) for name in document["files"]}
    path.write_text(json.dumps(document), encoding="utf-8")
    sign_bundle(folder, private_key)
    return folder


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _insert(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.randint(1, _LONGEST_RUN)) + content[at:]


def _delete(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + content[at + rng.randint(1, _LONGEST_RUN) :]


def _truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _restated(signed: Path, name: str, rng: random.Random) -> dict[str, bytes]:
    """A changed file and a manifest with its right hash: what somebody without the key would do."""
    document = json.loads((signed / MANIFEST_FILE).read_text(encoding="utf-8"))
    files = {}
    if name in document["files"]:
        import hashlib

        files[name] = _flip((signed / name).read_bytes(), rng)
        digest = hashlib.sha256(files[name]).hexdigest()
        document["files"][name] = {"sha256": digest, "bytes": len(files[name])}
    elif name == SIGNATURE_FILE:
        files[name] = rng.randbytes(len((signed / name).read_bytes()))
    document["provenance"]["note"] = rng.random()
    return {**files, MANIFEST_FILE: (json.dumps(document, indent=2) + "\n").encode()}
