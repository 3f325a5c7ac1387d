from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

from pocketformer.export.sbom import DATA, MODEL, SBOM_FILE, Origin, packages, read_origins, sbom

ORIGINS = [
    Origin(kind=MODEL, name="minilm", role="source", sha256="a" * 64, license="apache-2.0"),
    Origin(kind=DATA, name="train.csv", role="train"),
]


def test_models_data_and_packages() -> None:
    document = json.loads(sbom("trec", ORIGINS))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["name"] == "trec"
    model, data, *libraries = document["components"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert model["licenses"] == [{"license": {"name": "apache-2.0"}}]
    assert (data["type"], data["name"]) == ("data", "train.csv")
    by_name = {item["name"]: item for item in libraries}
    assert by_name["onnxruntime"]["version"] == metadata.version("onnxruntime")
    assert by_name["onnxruntime"]["purl"] == f"pkg:pypi/onnxruntime@{metadata.version('onnxruntime')}"
    assert {name for name, item in by_name.items() if item["scope"] == "required"} == {
        "numpy", "onnxruntime", "tokenizers",
    }  # fmt: skip
    assert all(item.get("licenses") for item in by_name.values() if item["scope"] == "required")


def test_the_same_every_time_and_small() -> None:
    text = sbom("trec", ORIGINS)
    assert text == sbom("trec", ORIGINS)
    assert len(text.encode()) < 10_000
    assert packages() == sorted(packages())


def test_origins_are_read_back(tmp_path: Path) -> None:
    (tmp_path / SBOM_FILE).write_text(sbom("trec", ORIGINS), encoding="utf-8")
    assert read_origins(tmp_path / SBOM_FILE) == ORIGINS
    assert read_origins(tmp_path / "absent") == []


def test_the_bundle_has_one(small_bundle: Path) -> None:
    document = json.loads((small_bundle / SBOM_FILE).read_text(encoding="utf-8"))
    assert document["metadata"]["component"]["name"] == "tiny"
