"""Apps in JavaScript with the small bundle inside, npm's packages installed once, and bundles signed by Node itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pocketformer.export.hosts import host_by_name, write_app
from pocketformer.runtime.manifest import MANIFEST_FILE, file_entry

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.insert(0, str(BENCHMARKS))

_LIMIT_S = 240
# Signs with OpenSSL inside Node, and not with the WebCrypto that the module under test uses.
SIGN = """
const crypto = require("node:crypto"), fs = require("node:fs");
const [bundle, key] = process.argv.slice(1);
const { publicKey, privateKey } = crypto.generateKeyPairSync("ed25519");
fs.writeFileSync(key, publicKey.export({ type: "spki", format: "pem" }));
const manifest = `${bundle}/manifest.json`;
fs.writeFileSync(`${manifest}.sig`, crypto.sign(null, fs.readFileSync(manifest), privateKey));
"""
# One process for many bundles: starting one for each would take most of the time.
_VERIFY_ALL = """
import fs from "node:fs";
const [module, list] = process.argv.slice(1);
const { verify } = await import(module);
for (const { bundle, key } of JSON.parse(fs.readFileSync(list))) {
  let told;
  try {
    told = await verify(bundle, key ? { key: fs.readFileSync(key) } : {});
  } catch (error) {
    told = { ok: false, checks: [], error: error.name, message: error.message };
  }
  console.log(JSON.stringify(told));
}
"""


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """npm's packages; without Node and npm, or without a registry, what needs them is skipped."""
    from evidence.node_modules import node_modules
    from evidence.table import EvidenceError

    try:
        return node_modules()
    except (EvidenceError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"needs Node with npm and its registry: {error}")


@pytest.fixture(scope="session")
def make_app(
    tmp_path_factory: pytest.TempPathFactory, node_modules: Path, small_bundle: Path
) -> Callable[[str], Path]:
    """An app of a host, as ``bundle --for`` writes it, with its packages linked in."""

    def make(name: str) -> Path:
        app = write_app(host_by_name(name), small_bundle, tmp_path_factory.mktemp(name) / "app")
        (app / "node_modules").symlink_to(node_modules)
        return app

    return make


@pytest.fixture(scope="session")
def node_app(make_app: Callable[[str], Path]) -> Path:
    return make_app("node")


@pytest.fixture(scope="session")
def web_app(make_app: Callable[[str], Path]) -> Path:
    return make_app("web")


@pytest.fixture(scope="session")
def signed(
    small_bundle: Path, node_modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A signed bundle and its public key; not to be changed."""
    folder = tmp_path_factory.mktemp("signed")
    bundle, key = shutil.copytree(small_bundle, folder / "bundle"), folder / "public.pem"
    run(["node", "-e", SIGN, str(bundle), str(key)])
    return bundle, key


def run(argv: Sequence[str], *, code: int = 0, **more: Any) -> str:
    """What a program prints; an exit code other than ``code`` fails the test with what it said."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT_S, check=False, **more)
    assert done.returncode == code, f"{done.returncode}: {done.stderr[-2000:]}{done.stdout[-2000:]}"
    return done.stdout


def verify_all(
    app: Path, bundles: Sequence[tuple[Path, Path | None]], list_file: Path
) -> list[dict[str, Any]]:
    """The reports of Node for many bundles, each with a key or without."""
    asked = [{"bundle": str(bundle), "key": str(key) if key else None} for bundle, key in bundles]
    list_file.write_text(json.dumps(asked), encoding="utf-8")
    module = (app / "pocketformer/index.mjs").as_uri()
    printed = run(["node", "--input-type=module", "-e", _VERIFY_ALL, module, str(list_file)], cwd=app)
    return [json.loads(line) for line in printed.splitlines()]


def write_texts(path: Path, texts: Sequence[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="ascii")
    return path


def restate(
    bundle: Path, *names: str, change: Callable[[dict[str, Any]], None] = lambda document: None
) -> Path:
    """Make the manifest true again for files that were changed, and change it as asked."""
    file = bundle / MANIFEST_FILE
    document = json.loads(file.read_text(encoding="utf-8"))
    for name in names:
        entry = file_entry(bundle / name)
        document["files"][name] = {"sha256": entry.sha256, "bytes": entry.bytes}
    change(document)
    file.write_text(json.dumps(document), encoding="utf-8")
    return bundle


def python_rows(bundle: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """What Python gives: ids, logits, label and score of every text alone."""
    from pocketformer.runtime.model import load

    model = load(bundle)
    rows = []
    for text in texts:
        answer = model.predict_one(text)
        rows.append(
            {
                "input_ids": model.encode([text])["input_ids"][0].tolist(),
                "logits": model.logits([text])[0].tolist(),
                "label": answer.label,
                "score": answer.score,
            }
        )
    return rows
