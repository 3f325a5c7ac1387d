"""The manifest of a bundle: what is in it, how to feed it, what its answers mean, where it came from.

``docs/bundle-format.md`` describes the file; this module is its schema. Everything that a host needs in
order to predict stands in typed fields; ``provenance`` and ``runtime`` are for people and reports.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Optional, TypeVar, Union

from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.limits import LARGEST_FILE, LARGEST_GOLDEN, LARGEST_TOKENIZER, MOST_FILES
from pocketformer.runtime.manifest_fields import DAMAGED, Fields, check_file_name, wrong
from pocketformer.runtime.manifest_fields import MANIFEST_FILE as MANIFEST_FILE
from pocketformer.runtime.signature import Key, PublicKey
from pocketformer.runtime.strict_json import parse_json

SCHEMA_VERSION = 1
CPU_PROVIDER = "CPUExecutionProvider"
ONNXRUNTIME, OPENVINO, LITERT = "onnxruntime", "openvino", "litert"
# The last two by their modules; what they need beyond that stands in the fingerprint of the built engine.
ENGINES = (ONNXRUNTIME, OPENVINO, LITERT, "tensorrt", "tensorrt_rtx")
GRAPH_OPTIMIZATIONS = ("all", "extended", "basic", "none")
PREPROCESSING_KINDS = ("text",)
POSTPROCESSING_KINDS = ("softmax_labels",)
# A graph input that the text encoder can fill; anything else in a manifest cannot be predicted with.
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
LARGEST_LENGTH = 2**20
MOST_THREADS = 1024

# By its ending an engine knows the format of a graph: ONNX, OpenVINO's IR, a built engine of TensorRT, onnxruntime's
# own format, LiteRT.
GRAPH_SUFFIXES = (".onnx", ".xml", ".engine", ".ort", ".tflite")
# The engine that alone reads such a graph.
_SUFFIX_ENGINES = {".xml": OPENVINO, ".ort": ONNXRUNTIME, ".tflite": LITERT}

AnyPath = TypeVar("AnyPath", Path, PurePosixPath)

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*\Z")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the graph; ``axes`` names its dimensions, such as ("batch", "sequence")."""

    name: str
    dtype: str = "int64"
    axes: tuple[str, ...] = ("batch", "sequence")


@dataclass(frozen=True)
class SessionSettings:
    """How the engine is to run the graph: the settings that the bundle was measured with.

    ``intra_op_threads`` 0 means as many as this process may use. The rest is onnxruntime's: ``spinning`` lets idle
    threads wait busily: faster answers, more energy. ``graph_optimization`` is one of ``GRAPH_OPTIMIZATIONS``.
    ``providers`` are its execution providers, the preferred one first; only those run the graph.
    """

    intra_op_threads: int = 0
    spinning: bool = True
    graph_optimization: str = "all"
    memory_arena: bool = True
    providers: tuple[str, ...] = (CPU_PROVIDER,)


@dataclass(frozen=True)
class EngineNeed:
    """The engine that a graph was made for, one of ``ENGINES``, and its oldest version that runs it (None: any)."""

    name: str = ONNXRUNTIME
    minimum_version: Optional[str] = None


@dataclass(frozen=True)
class Preprocessing:
    """From a text to token ids: the tokenizer's file, truncation (tokens, special ones included), padding."""

    max_length: int
    pad_id: int = 0
    tokenizer_file: str = "tokenizer.json"
    kind: str = "text"


@dataclass(frozen=True)
class Postprocessing:
    """From logits to an answer: softmax over ``labels``, in the order of the graph's last axis."""

    labels: tuple[str, ...]
    kind: str = "softmax_labels"


@dataclass(frozen=True)
class FileEntry:
    """What a file of the bundle must be: its SHA-256 (64 lower-case hexadecimal digits) and its size."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The whole of ``manifest.json``; ``tolerance`` is the largest absolute logit difference allowed.

    ``files`` holds every file of the bundle except the manifest itself, by its path inside the bundle
    with forward slashes.
    """

    name: str
    target: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing
    postprocessing: Postprocessing
    tolerance: float
    files: Mapping[str, FileEntry]
    task: str = "text-classification"
    graph: str = "model.onnx"
    golden_file: str = "golden.jsonl"
    engine: EngineNeed = field(default_factory=EngineNeed)
    session: SessionSettings = field(default_factory=SessionSettings)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    runtime: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The text of ``manifest.json``, indented, ending with a newline.

        Raises ``VerificationError`` when a value is not one that ``from_json`` would take back.
        """
        try:
            text = json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            text.encode("utf-8")
        except (TypeError, ValueError) as error:
            raise VerificationError(
                f"the manifest of {self.name!r} cannot be written as JSON: {error}",
                hint="Give provenance and runtime plain values: text, finite numbers, lists and mappings.",
            ) from error
        Manifest.from_json(text)
        return text

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read the text of a manifest. Keys that this version does not know are passed over.

        Raises ``VerificationError`` naming the field that is wrong, and ``InputError`` when the manifest
        is of a newer schema than this version of pocketformer reads.
        """
        try:
            document = parse_json(text)
            if "\\u" in text:  # an escape is the only way to half a character, which no host can show
                json.dumps(document, ensure_ascii=False).encode("utf-8")
        except ValueError as error:
            raise VerificationError(f"{MANIFEST_FILE} is not JSON: {error}", hint=DAMAGED) from error
        if not isinstance(document, dict):
            raise wrong("the document", "a JSON object", document)
        top = Fields("", document)
        version = top.integer("schema_version", 1)
        if version > SCHEMA_VERSION:
            raise InputError(
                f"{MANIFEST_FILE} has schema_version {version}; this version reads up to {SCHEMA_VERSION}",
                hint="A newer pocketformer wrote this bundle: upgrade with `pip install -U pocketformer`.",
            )
        manifest = cls(
            schema_version=version,
            name=top.text("name"),
            task=top.choice("task", ("text-classification",)),
            target=top.text("target"),
            precision=top.text("precision"),
            graph=top.file("graph"),
            inputs=tuple(_tensor(item) for item in top.objects("inputs")),
            outputs=tuple(_tensor(item) for item in top.objects("outputs")),
            preprocessing=_preprocessing(top.object("preprocessing")),
            postprocessing=_postprocessing(top.object("postprocessing")),
            # Came later: what a bundle without it holds runs in onnxruntime.
            engine=_engine(top.object("engine")) if top.has("engine") else EngineNeed(),
            session=_session(top.object("session")),
            golden_file=top.file("golden_file"),
            tolerance=top.number("tolerance"),
            provenance=top.mapping("provenance"),
            runtime={key: top.object("runtime").text(key) for key in top.mapping("runtime")},
            files={name: _entry(name, item) for name, item in top.entries("files", MOST_FILES).items()},
        )
        manifest._check_names()
        return manifest

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """Read the bytes of a manifest, which are UTF-8. Errors as ``from_json``."""
        try:
            return cls.from_json(content.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise VerificationError(
                f"{MANIFEST_FILE} is not UTF-8 at byte {error.start}", hint=DAMAGED
            ) from error

    def _check_names(self) -> None:
        """Check what no single field can: the files named are listed, and the inputs can be filled."""
        named = {
            "graph": self.graph,
            "the weights of graph": graph_files(PurePosixPath(self.graph))[-1].as_posix(),
            "golden_file": self.golden_file,
            "preprocessing.tokenizer_file": self.preprocessing.tokenizer_file,
        }
        for place, name in named.items():
            if name not in self.files:
                raise wrong(place, "a file listed in `files`", name)
        for name, most in (
            (self.golden_file, LARGEST_GOLDEN),
            (self.preprocessing.tokenizer_file, LARGEST_TOKENIZER),
        ):
            if self.files[name].bytes > most:
                raise wrong(f"files[{name!r}].bytes", f"at most {most}", self.files[name].bytes)
        only = _SUFFIX_ENGINES.get(PurePosixPath(self.graph).suffix, self.engine.name)
        if not self.graph.endswith(GRAPH_SUFFIXES) or self.engine.name != only:
            raise wrong(
                "graph", f"a file that ends in {', '.join(GRAPH_SUFFIXES)}, as its engine has it", self.graph
            )
        for index, spec in enumerate(self.inputs):
            if spec.name not in TEXT_INPUTS:
                raise wrong(f"inputs[{index}].name", f"one of {', '.join(TEXT_INPUTS)}", spec.name)
            dtype = "int32" if self.engine.name == LITERT else "int64"
            if spec.dtype != dtype:
                raise wrong(f"inputs[{index}].dtype", repr(dtype), spec.dtype)


def read_manifest(path: Union[str, Path], *, key: Optional[Key] = None) -> Manifest:
    """Read the manifest of the bundle at ``path``, a directory or an archive; its other files are not looked at.

    With ``key``, the signer's public key, it is parsed only when its signature holds.
    Raises ``InputError`` when there is no such bundle or no manifest in it, else as ``from_json``.
    """
    from pocketformer.runtime.opening import manifest_bytes, open_contents  # they know what a manifest is

    public = None if key is None else PublicKey(key)
    try:
        return Manifest.from_bytes(manifest_bytes(open_contents(path, public), public))
    except VerificationError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error


def sha256_file(path: Union[str, Path]) -> str:
    """SHA-256 of a file's bytes, 64 lower-case hexadecimal digits."""
    import hashlib  # here, because loading a bundle does not need it

    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def sha256_directory(path: Union[str, Path]) -> str:
    """One SHA-256 over the names and contents of all files directly in a directory."""
    import hashlib

    digest = hashlib.sha256()
    for file in sorted(entry for entry in Path(path).iterdir() if entry.is_file()):
        digest.update(f"{file.name} {sha256_file(file)}\n".encode())
    return digest.hexdigest()


def graph_files(graph: AnyPath) -> tuple[AnyPath, ...]:
    """The files that a graph consists of: OpenVINO's IR has its weights in a file of their own."""
    return (graph, graph.with_suffix(".bin")) if graph.suffix == ".xml" else (graph,)


def file_entry(path: Union[str, Path]) -> FileEntry:
    """The entry of ``files`` for the file at ``path``."""
    return FileEntry(sha256=sha256_file(path), bytes=Path(path).stat().st_size)


def _tensor(fields: Fields) -> TensorSpec:
    return TensorSpec(name=fields.text("name"), dtype=fields.text("dtype"), axes=fields.names("axes"))


def _preprocessing(fields: Fields) -> Preprocessing:
    return Preprocessing(
        kind=fields.choice("kind", PREPROCESSING_KINDS),
        tokenizer_file=fields.file("tokenizer_file"),
        max_length=fields.integer("max_length", 1, LARGEST_LENGTH),
        pad_id=fields.integer("pad_id", 0, 2**31 - 1),
    )


def _postprocessing(fields: Fields) -> Postprocessing:
    return Postprocessing(kind=fields.choice("kind", POSTPROCESSING_KINDS), labels=fields.names("labels"))


def _engine(fields: Fields) -> EngineNeed:
    minimum = fields.optional_text("minimum_version")
    if minimum is not None and _VERSION.match(minimum) is None:
        raise wrong("engine.minimum_version", "numbers with dots", minimum)
    return EngineNeed(name=fields.choice("name", ENGINES), minimum_version=minimum)


def _session(fields: Fields) -> SessionSettings:
    return SessionSettings(
        intra_op_threads=fields.integer("intra_op_threads", 0, MOST_THREADS),
        spinning=fields.boolean("spinning"),
        graph_optimization=fields.choice("graph_optimization", GRAPH_OPTIMIZATIONS),
        memory_arena=fields.boolean("memory_arena"),
        # Came later: a bundle without it is for the CPU.
        providers=fields.names("providers") if fields.has("providers") else (CPU_PROVIDER,),
    )


def _entry(name: str, value: Any) -> FileEntry:
    place = f"files[{name!r}]"
    check_file_name(place, name)
    if not isinstance(value, dict):
        raise wrong(place, "an object", value)
    fields = Fields(place, value)
    sha256 = fields.text("sha256")
    if _SHA256.match(sha256) is None:
        raise wrong(f"{place}.sha256", "64 lower-case hexadecimal digits", sha256)
    return FileEntry(sha256=sha256, bytes=fields.integer("bytes", 0, LARGEST_FILE))
