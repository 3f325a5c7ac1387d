"""A bundle that answers: ``load`` reads it, ``Model`` predicts."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from pocketformer.runtime.contents import Contents
from pocketformer.runtime.engine import Engine, FloatArray, available_cores, open_engine
from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.limits import LARGEST_TOKENIZER
from pocketformer.runtime.manifest import Manifest, SessionSettings
from pocketformer.runtime.opening import check_graph, graph_content, open_bundle
from pocketformer.runtime.results import Prediction
from pocketformer.runtime.signature import Key
from pocketformer.runtime.text import IntArray, TextEncoder, text_list

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

# Texts tokenized at a time, in batches: enough to sort by length, few enough to hold for a file of millions.
_BATCHES_A_WINDOW = 64


class Model:
    """A text classifier out of a bundle. All its methods may be called from several threads at once; load it after
    a fork, not before: engines do not survive one.

    Within a call, batches are formed of texts of similar length, so that little is computed on padding;
    answers come back in the order of the texts. A graph with dynamic int8 quantizes its activations over
    the whole batch: there, a text's logits depend on its batch, and now and then its label does. ``predict_one``
    and the golden samples are batches of one.
    """

    def __init__(self, manifest: Manifest, engine: Engine, encoder: TextEncoder) -> None:
        self.manifest = manifest
        self.engine = engine
        self.encoder = encoder
        self.labels: tuple[str, ...] = manifest.postprocessing.labels
        self._encode_one = encoder.encode_one
        self._run = engine.run
        self._threads: Optional[ThreadPoolExecutor] = None
        self._threads_lock = threading.Lock()

    def predict(self, texts: Sequence[str], batch_size: int = 32) -> list[Prediction]:
        """The label of every text and its probability; an empty list for no texts.

        Raises ``InputError`` for a single text, for an item that is no text, for a batch_size below 1;
        ``VerificationError`` when the graph fails.
        """
        texts = text_list(texts)
        if len(texts) == 1:
            return [self.predict_one(texts[0])]
        rows = self.logits(texts, batch_size)
        return [self._answer(text, row) for text, row in zip(texts, rows.tolist())]

    def predict_one(self, text: str) -> Prediction:
        """The label of one text and its probability. Errors as ``predict``."""
        return self._answer(text, self._run(self._encode_one(text))[0].tolist())

    async def apredict(self, texts: Sequence[str], batch_size: int = 32) -> list[Prediction]:
        """``predict`` for asyncio: the event loop goes on while threads of this model's own do the work.

        There are as many of them as cores; more calls at once wait their turn. Any number of event loops may call. A
        call that is cancelled while it waits is never computed; one that has begun is, and its answer is dropped.
        """
        from asyncio import get_running_loop  # here, because a cold start does without

        return await get_running_loop().run_in_executor(self._executor(), self.predict, texts, batch_size)

    def logits(self, texts: Sequence[str], batch_size: int = 32) -> FloatArray:
        """Logits float32 [texts, labels], in the order of the texts. Errors as ``predict``."""
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}", hint="Use a batch_size of at least 1.")
        texts = text_list(texts)
        output = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        window = batch_size * _BATCHES_A_WINDOW
        for start in range(0, len(texts), window):
            encodings = self.encoder.tokenize(texts[start : start + window], first=start)
            for chosen in _batches_of_like_length([len(item) for item in encodings], batch_size):
                feeds = self.encoder.collate([encodings[index] for index in chosen])
                output[chosen + start] = self._run(feeds)
        return output

    def encode(self, texts: Sequence[str]) -> dict[str, IntArray]:
        """The graph's inputs for ``texts`` as one batch: int64 [texts, longest]. Errors as ``predict``."""
        return self.encoder.encode(texts)

    def _executor(self) -> ThreadPoolExecutor:
        """The threads of ``apredict``, made when first needed; they end with this model."""
        with self._threads_lock:
            if self._threads is None:
                from concurrent.futures import ThreadPoolExecutor

                self._threads = ThreadPoolExecutor(available_cores(), thread_name_prefix="pocketformer")
            return self._threads

    def _answer(self, text: str, row: list[float]) -> Prediction:
        """Softmax over one row in double precision; plain Python is faster than numpy for a few labels."""
        top = max(row)
        total = 0.0
        for value in row:
            total += math.exp(value - top)
        return Prediction(text, self.labels[row.index(top)], 1.0 / total)


def load(
    path: Union[str, Path], *, session: Optional[SessionSettings] = None, key: Optional[Key] = None
) -> Model:
    """Load the bundle at ``path``, a directory or an archive; ``session`` replaces what it was measured with.

    Sizes of files are compared with the manifest, their hashes are not: that is what ``verify`` is for. With ``key``,
    the signer's public key, they are: its signature is checked before anything is parsed, and the bytes that are used
    are those that were hashed.
    Raises ``InputError`` when there is no bundle, ``VerificationError`` when it is damaged or not signed with the key,
    ``UnavailableError`` when the device or library that it asks for is not here.
    """
    return model_from(*open_bundle(path, key), session=session)


def model_from(manifest: Manifest, contents: Contents, *, session: Optional[SessionSettings] = None) -> Model:
    """The model of an opened bundle. Errors as ``load``."""
    settings = manifest.session if session is None else session
    preprocessing = manifest.preprocessing
    tokenizer = contents.read(preprocessing.tokenizer_file, LARGEST_TOKENIZER)
    check_graph(contents, manifest)
    graph = contents.place / manifest.graph
    engine = open_engine(graph, settings, manifest.engine, graph_content(contents, manifest))
    encoder = TextEncoder(
        contents.place / preprocessing.tokenizer_file,
        preprocessing.max_length,
        preprocessing.pad_id,
        engine.input_names,
        content=tokenizer,
    )
    _check_graph(graph, manifest, engine, encoder)
    return Model(manifest, engine, encoder)


def _check_graph(graph: Path, manifest: Manifest, engine: Engine, encoder: TextEncoder) -> None:
    """Refuse a manifest that describes another graph than the one beside it."""
    hint = "Graph and manifest are of different bundles: copy the bundle again."
    stated = {spec.name for spec in manifest.inputs}
    if stated != set(engine.input_names):
        raise VerificationError(
            f"{graph} has the inputs {', '.join(sorted(engine.input_names))}, "
            f"its manifest says {', '.join(sorted(stated))}",
            hint=hint,
        )
    shape = engine.output_shape
    if len(shape) != 2 or not isinstance(shape[1], int):
        shape = engine.run(encoder.encode_one("a")).shape  # the graph does not say: ask it
    if len(shape) != 2 or shape[1] != len(manifest.postprocessing.labels):
        raise VerificationError(
            f"{graph} gives {list(shape)}, its manifest has {len(manifest.postprocessing.labels)} labels",
            hint=hint,
        )


def _batches_of_like_length(lengths: Sequence[int], batch_size: int) -> Iterator[NDArray[Any]]:
    """Indices of each batch; always the same for the same lengths, and in order when one batch holds all."""
    if len(lengths) <= batch_size:
        yield np.arange(len(lengths))
        return
    order = np.argsort(np.asarray(lengths), kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
