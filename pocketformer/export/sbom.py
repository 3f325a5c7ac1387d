"""What a bundle was made of and with, as CycloneDX 1.6 (ECMA-424): models, data, packages, with versions and licences.

No time and no serial number: the same bundle has the same bytes. A few kilobytes, so that it travels with the bundle
and is signed with it. The packages are those that Pocketformer itself names; what these need in turn is theirs to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SBOM_FILE = "sbom.cdx.json"
MODEL, DATA = "machine-learning-model", "data"
_EXTRAS = ("", "compress")
# What a device needs to predict; the others were needed to make the bundle.
_ON_DEVICE = ("numpy", "onnxruntime", "tokenizers")
# A licence's whole text in the place of its name, as some packages have it.
_LONGEST_NAME = 80
_CLASSIFIER = "License :: "


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a bundle came from: a model or a file of data (``kind``: ``MODEL`` or ``DATA``).

    ``sha256`` is of the weights or of the file, ``license`` what its directory says; None: not known. ``role`` is what
    it was used for, such as "source" or "train".
    """

    kind: str
    name: str
    role: str
    sha256: str | None = None
    license: str | None = None


def sbom(name: str, origins: Sequence[Origin], *, engines: Iterable[str] = ()) -> str:
    """The text of ``sbom.cdx.json`` for the bundle ``name``; ``engines`` are packages of other engines it runs in."""
    device = {*_ON_DEVICE, *engines}
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": MODEL, "bom-ref": "bundle", "name": name},
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": "pocketformer",
                        "version": installed_version("pocketformer"),
                    }
                ]
            },
        },
        "components": [
            *(_origin(item) for item in origins),
            *(_package(item, on_device=item in device) for item in packages(engines)),
        ],
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def read_origins(path: Path) -> list[Origin]:
    """The models and data that the SBOM at ``path`` names; none where there is no such file."""
    if not path.is_file():
        return []
    found = []
    for item in json.loads(path.read_text(encoding="utf-8"))["components"]:
        if item["type"] in (MODEL, DATA):
            found.append(
                Origin(
                    kind=item["type"],
                    name=item["name"],
                    role=item["properties"][0]["value"],
                    sha256=next((entry["content"] for entry in item.get("hashes", ())), None),
                    license=next((entry["license"]["name"] for entry in item.get("licenses", ())), None),
                )
            )
    return found


def packages(engines: Iterable[str] = ()) -> list[str]:
    """The installed packages that Pocketformer names as its own requirements, by their canonical names, sorted."""
    names = {canonicalize_name(name) for name in (*_ON_DEVICE, *engines)}
    try:
        wanted = [Requirement(text) for text in metadata.requires("pocketformer") or ()]
    except metadata.PackageNotFoundError:  # a checkout that was never installed
        wanted = []
    for item in wanted:
        if item.marker is None or any(item.marker.evaluate({"extra": extra}) for extra in _EXTRAS):
            names.add(canonicalize_name(item.name))
    return sorted(name for name in names if installed_version(name) != "unknown")


def installed_version(package: str) -> str:
    """The version of an installed package; "unknown" when it is not installed, such as a checkout of this one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _origin(origin: Origin) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": origin.kind,
        "name": origin.name,
        "properties": [{"name": "pocketformer:role", "value": origin.role}],
    }
    if origin.sha256 is not None:
        component["hashes"] = [{"alg": "SHA-256", "content": origin.sha256}]
    if origin.license is not None:
        component["licenses"] = [{"license": {"name": origin.license}}]
    return component


def _package(name: str, *, on_device: bool) -> dict[str, Any]:
    found = metadata.distribution(name)
    component: dict[str, Any] = {
        "type": "library",
        "name": name,
        "version": found.version,
        "purl": f"pkg:pypi/{name}@{found.version}",
        "scope": "required" if on_device else "excluded",
    }
    licence = _licence(found)
    return component if licence is None else {**component, "licenses": [licence]}


def _licence(found: metadata.Distribution) -> dict[str, Any] | None:
    """An SPDX expression where the package has one (PEP 639), else the name that it gives; None: it says nothing."""
    values = found.metadata
    if "License-Expression" in values:
        return {"expression": values["License-Expression"]}
    name = values["License"].strip() if "License" in values else ""
    if not name or len(name) > _LONGEST_NAME or "\n" in name:
        classified = [text for text in values.get_all("Classifier") or () if text.startswith(_CLASSIFIER)]
        name = classified[0].rsplit(" :: ", 1)[-1] if classified else ""
    return {"license": {"name": name}} if name else None
