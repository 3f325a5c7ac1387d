"""Open a bundle that may come from a stranger, step by step: signature, manifest, sizes, hashes, graph.

With a key nothing is parsed before the signature holds, and then every file is read once: the bytes that were hashed
are the bytes that are used, so that nobody can exchange a file between check and use.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Optional, Union

from pocketformer.runtime.contents import (
    COPY_AGAIN,
    NO_BUNDLE,
    Contents,
    Folder,
    HeldFiles,
    MissingFileError,
    is_archive,
)
from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.external_data import refuse_external_data
from pocketformer.runtime.limits import LARGEST_FILE, LARGEST_GOLDEN, LARGEST_MANIFEST
from pocketformer.runtime.manifest import MANIFEST_FILE, FileEntry, Manifest, graph_files
from pocketformer.runtime.signature import SIGNATURE_BYTES, SIGNATURE_FILE, Key, PublicKey, unsigned

# A FlatBuffers file has its identifier behind the first offset.
_ORT_MARK = b"ORTM"


def open_bundle(path: Union[str, Path], key: Optional[Key] = None) -> tuple[Manifest, Contents]:
    """The manifest of the bundle at ``path``, a directory or an archive, and its files, held to the manifest.

    Without ``key`` the files' sizes are compared, with it the signature is checked first and then sizes and hashes.
    Raises ``InputError`` when there is no bundle or no such key, ``VerificationError`` for the first thing wrong.
    """
    public = None if key is None else PublicKey(key)
    try:
        contents = open_contents(path, public)
        manifest = Manifest.from_bytes(manifest_bytes(contents, public))
        if public is None:
            wrong = wrong_sizes(contents, manifest, manifest.files)
        else:
            contents, wrong = hash_files(contents, manifest, hold=True)
        if wrong:
            raise VerificationError(wrong[0], hint=COPY_AGAIN)
    except VerificationError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error
    return manifest, contents


def open_contents(path: Union[str, Path], key: Optional[PublicKey]) -> Contents:
    """The files at ``path``; those of an archive are looked at only when its signature holds.

    Raises ``InputError`` when there is nothing, ``VerificationError`` as ``Archive`` does.
    """
    place = Path(path)
    if is_archive(place):
        from pocketformer.runtime.archive import Archive

        return Archive(place, key)
    return Folder(place)


def manifest_bytes(contents: Contents, key: Optional[PublicKey]) -> bytes:
    """The manifest, not parsed; with ``key`` its signature was checked over these very bytes."""
    try:
        content = contents.read(MANIFEST_FILE, LARGEST_MANIFEST)
    except MissingFileError as error:
        raise InputError(
            f"{contents.place / MANIFEST_FILE} cannot be read: it is missing", hint=NO_BUNDLE
        ) from error
    if key is not None:
        try:
            signature = contents.read(SIGNATURE_FILE, SIGNATURE_BYTES)
        except MissingFileError as error:
            raise unsigned(SIGNATURE_FILE) from error
        key.check(signature, content, MANIFEST_FILE)
    return content


def wrong_sizes(contents: Contents, manifest: Manifest, names: Iterable[str]) -> list[str]:
    """What is wrong with the files ``names`` as far as can be seen without opening them; nothing outside is touched."""
    found = []
    for name in names:
        entry = manifest.files[name]
        try:
            size = contents.size(name)
        except VerificationError as error:
            found.append(error.message)
            continue
        if size != entry.bytes:
            found.append(_another_size(name, size, entry))
    return found


def hash_files(contents: Contents, manifest: Manifest, *, hold: bool) -> tuple[Contents, list[str]]:
    """The bundle's files, and what is wrong with the size or SHA-256 of any; no file of another size is read.

    With ``hold`` those that predicting and verifying need are returned in memory, as they were hashed; but an engine of
    TensorRT stays where it lies.
    """
    needed = set(needed_files(manifest)) if hold else set()
    on_disk: dict[str, Path] = {}
    engine = contents.file(manifest.graph) if manifest.graph.endswith(".engine") else None
    if engine is not None:  # TensorRT's library is given a path
        needed.discard(manifest.graph)
        on_disk[manifest.graph] = engine
    held: dict[str, bytes] = {}
    wrong = []
    for name, entry in manifest.files.items():
        try:
            size = contents.size(name)
            if size != entry.bytes:
                wrong.append(_another_size(name, size, entry))
                continue
            same, content = _hash(contents, name, entry, keep=name in needed)
        except VerificationError as error:
            wrong.append(error.message)
            continue
        if not same:
            wrong.append(f"{name} has another SHA-256 than the manifest says")
        elif content is not None:
            held[name] = content
    return (HeldFiles(contents.place, held, on_disk) if hold else contents), wrong


def needed_files(manifest: Manifest) -> tuple[str, ...]:
    """The files that are parsed: the graph's, the tokenizer, the golden samples."""
    graph = tuple(part.as_posix() for part in graph_files(PurePosixPath(manifest.graph)))
    return (*graph, manifest.preprocessing.tokenizer_file, manifest.golden_file)


def check_graph(contents: Contents, manifest: Manifest) -> None:
    """Raise ``VerificationError`` when a graph for onnxruntime would have other files opened.

    onnxruntime tells its own format by a mark; what is called ``.ort`` and has none it could take for ONNX.
    """
    if manifest.graph.endswith(".onnx"):
        with contents.view(manifest.graph) as graph:
            refuse_external_data(graph, manifest.graph)
    if manifest.graph.endswith(".ort"):
        with contents.view(manifest.graph) as graph:
            if bytes(graph[4:8]) != _ORT_MARK:
                raise VerificationError(
                    f"{manifest.graph} is not in onnxruntime's own format", hint=COPY_AGAIN
                )


def graph_content(contents: Contents, manifest: Manifest) -> Optional[list[bytes]]:
    """What the files of the graph hold; None where the engine may read them by itself, with less memory."""
    if contents.file(manifest.graph) is not None:
        return None
    parts = graph_files(PurePosixPath(manifest.graph))
    return [contents.read(part.as_posix(), LARGEST_FILE) for part in parts]


def golden_text(contents: Contents, manifest: Manifest) -> str:
    """The text of the golden samples; ``VerificationError`` when it is no UTF-8."""
    try:
        return contents.read(manifest.golden_file, LARGEST_GOLDEN).decode("utf-8")
    except UnicodeDecodeError as error:
        raise VerificationError(
            f"{manifest.golden_file} is not UTF-8 at byte {error.start}", hint=COPY_AGAIN
        ) from error


def _another_size(name: str, size: int, entry: FileEntry) -> str:
    return f"{name} has {size} bytes, its manifest says {entry.bytes}"


def _hash(contents: Contents, name: str, entry: FileEntry, *, keep: bool) -> tuple[bool, Optional[bytes]]:
    import hashlib  # here, because loading without a key does not need it

    digest = hashlib.sha256()
    if keep:
        content = contents.read(name, entry.bytes)
        digest.update(content)
        return digest.hexdigest() == entry.sha256, content
    for block in contents.blocks(name):
        digest.update(block)
    return digest.hexdigest() == entry.sha256, None
