"""Text in, answer out in one ONNX file: tokenizer, model, softmax and labels (onnxruntime-extensions' operators).

The tokenizer in the graph is another program than the one that the model was trained and measured with. So the file is
written only when the two agree: on the golden texts, on the user's own, and on 1,000 texts that tokenizers trip over
(``hard_texts``). One difference and it is refused, with that difference shown. Texts with a NUL never agree, because
onnxruntime's interface ends a string there; so a graph for any text at all is not to be had, and what is to be had is
one for a *domain* that the app keeps to: characters, and a longest text. The graph checks it, as ``in_domain``.

Operators: github.com/microsoft/onnxruntime-extensions, docs/custom_text_ops.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketformer.export.graph_file import load_graph
from pocketformer.export.hard_texts import hard_texts, hard_texts_of
from pocketformer.runtime.engine import session_options
from pocketformer.runtime.errors import (
    ExportError,
    InputError,
    MissingDependencyError,
    ParityError,
    VerificationError,
)
from pocketformer.runtime.golden import golden_from_jsonl
from pocketformer.runtime.manifest import SessionSettings, read_manifest
from pocketformer.runtime.model import Model, load

DOMAIN = "ai.onnx.contrib"
INSTALL = 'pip install "pocketformer[text-graph]"'
# Rounding between the same kernels, once in a graph of their own and once behind a tokenizer.
_TOLERANCE = 1e-4
# Thousands of short calls on whatever machine: nothing is timed.
_ONE_THREAD = SessionSettings(intra_op_threads=1, spinning=False)
_LONGEST = 1000  # as often as the operators' regular expressions (RE2) repeat anything
_OPERATOR_KEEPS = {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"}


@dataclass(frozen=True, kw_only=True)
class TextDomain:
    """The texts that an app hands over: of ``characters`` (as inside the brackets of a regular expression) alone,

    ``longest`` of them at most. None: any characters, any length.
    """

    characters: str | None = None
    longest: int = 200

    def pattern(self) -> str:
        """A regular expression of all such texts, for Python and for RE2. ``InputError`` when it is none."""
        if self.characters is None:
            return r"^(?s:.*)$"
        if not 1 <= self.longest <= _LONGEST:
            raise InputError(f"the longest text is {self.longest}", hint=f"Use 1 to {_LONGEST} characters.")
        try:
            re.compile(f"[{self.characters}]")
        except re.error as error:
            raise InputError(
                f"[{self.characters}] is no set of characters: {error}",
                hint="Write it as in a regular expression, such as 'a-zA-Z0-9 .,?!-'.",
            ) from error
        return f"^[{self.characters}]{{0,{self.longest}}}$"

    def holds(self, text: str) -> bool:
        """Whether an app that keeps to the domain could hand over this text."""
        return self.characters is None or re.fullmatch(self.pattern()[1:-1], text) is not None

    def hard_texts(self) -> list[str]:
        """The worst of it, always the same."""
        return hard_texts() if self.characters is None else hard_texts_of(self.characters, self.longest)

    def words(self) -> str:
        """For a message."""
        if self.characters is None:
            return "any text"
        return f"texts of [{self.characters}], at most {self.longest} characters"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What the gate looked at: how many texts were ``golden``, of the ``user``, and ``hard`` ones."""

    golden: int
    user: int
    hard: int
    domain: TextDomain

    def sentence(self) -> str:
        """For people."""
        return (
            f"No difference on {self.golden} golden texts, {self.user} of your own and {self.hard} hard ones "
            f"({self.domain.words()})."
        )


def write_text_graph(
    bundle: Path, output: Path, texts: Sequence[str], domain: TextDomain | None = None
) -> Gate:
    """Write the ONNX file ``output`` from ``bundle``, if its tokenizer agrees with the bundle's on every text.

    Input ``text`` [1]; outputs ``label`` and ``score`` [1], ``logits`` [1, labels], ``input_ids`` [1, sequence] and
    ``in_domain`` [1]. Raises ``ParityError`` that shows the first difference (nothing is written then), ``InputError``
    for a text of the user's that lies outside ``domain``, ``ExportError`` for a tokenizer of another kind than BERT's,
    ``MissingDependencyError`` without onnxruntime-extensions.
    """
    domain = domain or TextDomain()
    library = _library()
    if output.exists():
        raise InputError(f"{output} exists already", hint="Choose another -o, or pass --force to replace it.")
    manifest = read_manifest(bundle)
    golden = [s.text for s in golden_from_jsonl((bundle / manifest.golden_file).read_text(encoding="utf-8"))]
    outside = next((text for text in texts if not domain.holds(text)), None)
    if outside is not None:
        raise InputError(
            f"one of your texts is not of the domain that you name, {domain.words()}: {outside[:80]!r}",
            hint="Name all characters that occur, and a longest text that holds them all.",
        )
    model = load(bundle, session=_ONE_THREAD)
    graph = build_text_graph(bundle, domain)
    session = _session(graph, library)
    kept = [text for text in golden if domain.holds(text)]
    hard = domain.hard_texts()
    for kind, group in (("golden", kept), ("your own", texts), ("hard", hard)):
        for text in group:
            _check(model, session, text, kind, domain)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(graph)
    return Gate(golden=len(kept), user=len(texts), hard=len(hard), domain=domain)


def _check(model: Model, session: Any, text: str, kind: str, domain: TextDomain) -> None:
    """``ParityError`` when the graph's answer is not that of the bundle."""
    clean = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    expected = model.encode([text])["input_ids"][0].tolist()
    try:
        names = ["input_ids", "logits", "label", "in_domain"]
        ids, logits, label, inside = session.run(names, {"text": np.array([clean], dtype=object)})
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise _refused(
            text, kind, "an answer", f"an error: {str(error).splitlines()[0][:200]}", domain
        ) from error
    if ids[0].tolist() != expected:
        raise _refused(text, kind, f"the ids {_short(expected)}", _short(ids[0].tolist()), domain)
    wanted = model.logits([text])[0]
    if not float(np.abs(logits[0] - wanted).max()) <= _TOLERANCE:
        raise _refused(text, kind, f"the logits {wanted.tolist()}", str(logits[0].tolist()), domain)
    if str(label[0]) != model.labels[int(wanted.argmax())]:
        raise _refused(
            text, kind, f"the label {model.labels[int(wanted.argmax())]!r}", repr(str(label[0])), domain
        )
    if not bool(inside[0]):
        raise _refused(text, kind, "in_domain", "its opposite", domain)


def _refused(text: str, kind: str, expected: str, found: str, domain: TextDomain) -> ParityError:
    shown = text if len(text) <= 60 else text[:57] + "..."
    advice = (
        "Tokenize outside of the graph, as the bundle does. Or, where your app lets only some characters through, name "
        "them: --characters 'a-zA-Z0-9 .,?!-' --longest 200."
        if domain.characters is None
        else "Name fewer characters, or tokenize outside of the graph, as the bundle does."
    )
    return ParityError(
        f"the tokenizer in the graph is not the model's: for the {kind} text {shown!a} the bundle has {expected}, "
        f"the graph {found}",
        hint=f"Nothing was written. {advice}",
    )


def _short(ids: Sequence[int]) -> str:
    return (
        str(list(ids)) if len(ids) <= 12 else f"[{', '.join(map(str, ids[:12]))}, ...] ({len(ids)} of them)"
    )


def build_text_graph(bundle: Path, domain: TextDomain) -> bytes:
    """The ONNX file, not held against anything yet."""
    from onnx import TensorProto, helper

    manifest = read_manifest(bundle)
    source = bundle / manifest.graph
    if source.suffix != ".onnx":
        raise ExportError(
            f"the graph of {bundle} is {source.name}, not ONNX", hint="Name a bundle with a .onnx."
        )
    model = load_graph(source)
    names = [item.name for item in model.graph.input]
    attributes, table = _tokenizer(
        bundle / manifest.preprocessing.tokenizer_file, manifest.preprocessing.max_length
    )
    labels = list(manifest.postprocessing.labels)
    constants = [
        helper.make_tensor("text/ids", TensorProto.INT64, [len(table)], table),
        helper.make_tensor("text/axis", TensorProto.INT64, [1], [0]),
        helper.make_tensor("text/last", TensorProto.INT64, [1], [-1]),
        helper.make_tensor("text/zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("text/domain", TensorProto.STRING, [1], [domain.pattern().encode()]),
        helper.make_tensor("text/nothing", TensorProto.STRING, [1], [b""]),
        helper.make_tensor(
            "text/labels", TensorProto.STRING, [len(labels)], [name.encode() for name in labels]
        ),
    ]
    made = {"input_ids": "input_ids", "token_type_ids": "text/types", "attention_mask": "text/mask"}
    before = [
        helper.make_node(
            "BertTokenizer",
            ["text"],
            ["text/lines", "text/types_1", "text/mask_1"],
            domain=DOMAIN,
            **attributes,
        ),
        # The operator numbers pieces by their lines; several pieces may share an id.
        helper.make_node("Gather", ["text/ids", "text/lines"], ["text/ids_1"]),
        helper.make_node("Unsqueeze", ["text/ids_1", "text/axis"], ["input_ids"]),
        helper.make_node("Unsqueeze", ["text/types_1", "text/axis"], ["text/types"]),
        helper.make_node("Unsqueeze", ["text/mask_1", "text/axis"], ["text/mask"]),
        helper.make_node(
            "StringRegexReplace", ["text", "text/domain", "text/nothing"], ["text/rest"], domain=DOMAIN
        ),
        helper.make_node("StringLength", ["text/rest"], ["text/rest_length"], domain=DOMAIN),
        helper.make_node("Equal", ["text/rest_length", "text/zero"], ["in_domain"]),
    ]
    logits = model.graph.output[0].name
    after = [
        helper.make_node("Identity", [logits], ["logits"]) if logits != "logits" else None,
        helper.make_node("Softmax", ["logits"], ["text/probabilities"], axis=-1),
        helper.make_node("ReduceMax", ["text/probabilities", "text/last"], ["score"], keepdims=0)
        if _opset(model) >= 18
        else helper.make_node("ReduceMax", ["text/probabilities"], ["score"], keepdims=0, axes=[-1]),
        helper.make_node("ArgMax", ["logits"], ["text/best"], axis=-1, keepdims=0),
        helper.make_node("Gather", ["text/labels", "text/best"], ["label"]),
    ]
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name in names:
                node.input[index] = made[name]
    nodes = [*before, *model.graph.node, *(node for node in after if node is not None)]
    graph = helper.make_graph(
        nodes,
        "text_classifier",
        [helper.make_tensor_value_info("text", TensorProto.STRING, [1])],
        [
            helper.make_tensor_value_info("label", TensorProto.STRING, [1]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(labels)]),
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "sequence"]),
            helper.make_tensor_value_info("in_domain", TensorProto.BOOL, [1]),
        ],
        [*constants, *model.graph.initializer],
    )
    imports = [item for item in model.opset_import if item.domain != DOMAIN]
    whole = helper.make_model(
        graph,
        opset_imports=[*imports, helper.make_opsetid(DOMAIN, 1)],
        ir_version=model.ir_version,
        functions=list(model.functions),
    )
    facts = {"labels": labels, "domain": domain.words(), "pattern": domain.pattern(), "name": manifest.name}
    helper.set_model_props(whole, {"pocketformer": json.dumps(facts)})
    return bytes(whole.SerializeToString())


def _opset(model: Any) -> int:
    return next((int(item.version) for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)


def _tokenizer(path: Path, max_length: int) -> tuple[Mapping[str, Any], list[int]]:
    """BertTokenizer's attributes, and the id of each line of its vocabulary. ``ExportError`` for any other kind."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        model, normalizer = content["model"], content["normalizer"] or {}
        kinds = (model["type"], normalizer.get("type"), (content["pre_tokenizer"] or {}).get("type"))
        special = {item["content"] for item in content["added_tokens"]}
        vocabulary = sorted(model["vocab"].items(), key=lambda item: int(item[1]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"{path} cannot be read: {error}", hint="Copy the bundle again.") from error
    problem = ""
    if kinds != ("WordPiece", "BertNormalizer", "BertPreTokenizer"):
        problem = f"it is {', '.join(str(kind) for kind in kinds)}"
    elif not special <= _OPERATOR_KEEPS or model.get("continuing_subword_prefix") != "##":
        problem = "it has special tokens or a prefix of its own"
    if problem:
        raise ExportError(
            f"only BERT's tokenizer (WordPiece) can be put into a graph so far, and {path} is another: {problem}",
            hint="Tokenize outside of the graph, as the bundle does.",
        )
    lower = bool(normalizer.get("lowercase", True))
    strips = normalizer.get("strip_accents")
    return {
        "vocab_file": "\n".join(piece for piece, _ in vocabulary),
        "do_lower_case": int(lower),
        "strip_accents": int(lower if strips is None else strips),
        "tokenize_chinese_chars": int(normalizer.get("handle_chinese_chars", True)),
        "max_length": max_length,
    }, [int(number) for _, number in vocabulary]


def _library() -> str:
    try:
        from onnxruntime_extensions import get_library_path
    # A package whose shared library does not load raises OSError.
    except Exception as error:
        raise MissingDependencyError(
            f"text in, answer out needs onnxruntime-extensions, which cannot be imported: {error}",
            hint=f"Install it: {INSTALL}.",
        ) from error
    return str(get_library_path())


def _session(graph: bytes, library: str) -> Any:
    import onnxruntime as ort

    options = session_options(_ONE_THREAD)
    options.register_custom_ops_library(library)
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise ExportError(
            f"onnxruntime does not take the graph with a tokenizer in it: {str(error).splitlines()[0]}",
            hint="Tokenize outside of the graph, as the bundle does.",
        ) from error
