"""What the rows about hosts share: a run of the demo, other forms of its bundle, keys, questions, hosts' programs."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from evidence.runs import INSIDE
from evidence.search import SearchRuns
from evidence.table import EvidenceError
from evidence.workspace import output_of

# The demo's own bundle is dynamic int8; these are made of the same exported graph. The names are candidates.
FORMS: Mapping[str, str] = {"fp32": "fp32-fused", "qdq": "static-plain-reduced"}
EMULATED = "cortex-a76"
_EMULATION = Path("tests/emulation/aarch64.py")
_LIMIT_S = 1800.0


class EmbeddingRuns(SearchRuns):
    """What is made once for the rows of one call. ``given``: a finished run of the demo, in place of one made now."""

    place = "evidence-embedding"
    given: Path | None = None

    @property
    def work(self) -> Path:
        """A folder for what rows make: kept while the code stays the same."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def demo_run(self) -> Path:
        return self.given if self.given is not None else super().demo_run()

    @cached_property
    def bundle(self) -> Path:
        """The bundle of the demo's run."""
        return self.demo_run() / "bundles" / "cpu"

    @cached_property
    def bundles(self) -> dict[str, Path]:
        """The model in three forms: ``dynamic`` as the demo delivers it, ``fp32`` and ``qdq`` (``FORMS``)."""
        return {"dynamic": self.bundle, **{form: self._form(form) for form in FORMS}}

    @cached_property
    def questions(self) -> list[str]:
        """The texts of the demo's test split."""
        with Path(self.inputs.test).open(encoding="utf-8", newline="") as handle:
            return [row["text"] for row in csv.DictReader(handle)]

    @property
    def private_key(self) -> Path:
        """An Ed25519 key made for this table (PKCS#8, PEM)."""
        return self._keys() / "private.pem"

    @property
    def public_key(self) -> Path:
        """Its public half (SubjectPublicKeyInfo, PEM)."""
        return self._keys() / "public.pem"

    @cached_property
    def signed(self) -> Path:
        """The demo's bundle, signed with ``private_key``."""

        def make(folder: Path) -> dict[str, Any]:
            self._pocketformer("bundle", self.bundle, "--sign", self.private_key, "-o", folder / "bundle")
            return {}

        self.once("signed", make)
        return self.folder / "signed" / "bundle"

    def host(self, name: str) -> list[str]:
        """How the program of a host is started: python, python-arm64, node, chromium, c, c-arm64."""
        from evidence import embed_c, embed_js

        if name == "python":
            return [sys.executable, str(INSIDE / "replay.py")]
        if name == "python-arm64":
            command = [sys.executable, str(self.repository.root / _EMULATION), "--cpu", EMULATED]
            python = self.output(command).strip()
            return [python, str(INSIDE / "replay.py")]
        if name in ("node", "chromium"):
            return embed_js.program(self, name)
        return embed_c.program(self, arm64=name == "c-arm64")

    def app(self, host: str) -> Path:
        """A folder that ``pocketformer bundle --for HOST`` wrote of the demo's bundle."""

        def make(folder: Path) -> dict[str, Any]:
            self._pocketformer("bundle", self.bundle, "--for", host, "-o", folder / "app")
            return {}

        self.once(f"app-{host}", make)
        return self.folder / f"app-{host}" / "app"

    def rows_of(self, host: str, verb: str, bundle: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
        """What a host's program prints for texts, a row each; ``EvidenceError`` when it fails."""
        file = self.work / f"texts-{host}.jsonl"
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="ascii")
        argv = [*self.host(host), verb, str(bundle), str(file)]
        printed = output_of(argv, environment=self.environment(), folder=self.work, limit_s=_LIMIT_S)
        rows = [json.loads(line) for line in printed.splitlines()]
        if len(rows) != len(texts):
            raise EvidenceError(f"{host} printed {len(rows)} rows for {len(texts)} texts")
        return rows

    def verify_code(self, host: str, bundle: Path) -> int:
        """The exit code of a host's verify."""
        done = subprocess.run(
            [*self.host(host), "verify", str(bundle)],
            env=self.environment(),
            capture_output=True,
            timeout=_LIMIT_S,
            check=False,
        )
        return done.returncode

    def _form(self, form: str) -> Path:
        def make(folder: Path) -> dict[str, Any]:
            data = ["--train", str(self.inputs.train), "--test", str(self.inputs.test)]
            graph, packed = folder / "quantized", folder / "packed"
            chosen = ["--candidate", FORMS[form], "--max-drop", "100%"]
            self._pocketformer("quantize", self.demo_run(), *data, *chosen, "-o", graph)
            self._pocketformer("bundle", graph, *data, "-o", packed)
            return {}

        self.once(f"form-{form}", make)
        return self.folder / f"form-{form}" / "packed" / "bundles" / "cpu"

    def _keys(self) -> Path:
        def make(folder: Path) -> dict[str, Any]:
            private, public = folder / "private.pem", folder / "public.pem"
            self.output(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)])
            self.output(["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)])
            return {}

        self.once("keys", make)
        return self.folder / "keys"

    def _pocketformer(self, *arguments: object) -> None:
        self.say("pocketformer " + " ".join(map(str, arguments[:2])))
        self.output([sys.executable, "-m", "pocketformer", *map(str, arguments)])
