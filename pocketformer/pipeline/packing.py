"""From a finished bundle to what is handed over: signed, as one file, or inside an app's sources."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from pocketformer.export.copying import copy_bundle
from pocketformer.export.hosts import host_by_name, write_app
from pocketformer.pipeline.artefacts import Artefacts
from pocketformer.pipeline.rundir import read_run
from pocketformer.runtime.contents import is_archive
from pocketformer.runtime.errors import InputError
from pocketformer.runtime.manifest import MANIFEST_FILE


def bundle_of(path: Path) -> Path:
    """The bundle at ``path``: a bundle itself, an archive, or the newest of a run.

    ``InputError`` when there is none.
    """
    if is_archive(path) or (path / MANIFEST_FILE).is_file():
        return path
    run = read_run(path)
    if run is None:
        raise InputError(f"{path} is neither a bundle nor a run", hint="Name one, such as out/bundles/cpu.")
    bundle = Artefacts.from_json(run["artefacts"], path.resolve()).bundle
    if bundle is None or not bundle.is_dir():
        raise InputError(f"the run {path} has no bundle yet", hint="Make one with `pocketformer bundle`.")
    return bundle


def pack(
    source: Path,
    output: Path,
    *,
    host: str | None = None,
    private_key: Path | None = None,
    archive: bool = False,
    force: bool = False,
) -> Path:
    """Write ``output`` from the bundle at ``source`` (as ``bundle_of``); the path that was written.

    ``private_key``: a PEM file of an Ed25519 key that signs it; ``archive``: one file, for which ``.pfz`` is usual;
    ``host``: a name of ``export.hosts``, for a folder of that host's sources with the bundle inside. ``output`` must
    not exist; with ``force`` a bundle or a file there is replaced.
    """
    if host is not None and archive:
        raise InputError("--archive and --for exclude each other", hint="An app holds a bundle as a folder.")
    bundle = bundle_of(source)
    chosen = None if host is None else host_by_name(host)
    _check_replaceable(output, force)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        copy, made = Path(folder) / "copied" / "bundle", Path(folder) / output.name
        copy_bundle(bundle, copy)
        if archive:
            from pocketformer.export.archive import write_archive

            write_archive(copy, made, private_key)  # signs both, the manifest and the archive
        else:
            if private_key is not None:
                from pocketformer.export.signing import sign_bundle

                sign_bundle(copy, private_key)
            if chosen is not None:
                write_app(chosen, copy, made)
            else:
                copy.rename(made)
        # Only now: whatever could go wrong left what was there.
        _remove(output)
        made.replace(output)
    return output


def _check_replaceable(output: Path, force: bool) -> None:
    """Only an earlier bundle or archive is ever replaced, when that is wanted: in an app's folder somebody works."""
    ours = output.is_file() or (output / MANIFEST_FILE).is_file()
    if output.exists() and not (force and ours):
        raise InputError(
            f"{output} exists already",
            hint="Choose another -o, or pass --force to replace it." if ours else "Choose another -o.",
        )


def _remove(output: Path) -> None:
    if output.is_dir():
        shutil.rmtree(output)
    else:
        output.unlink(missing_ok=True)


def make_way(output: Path, force: bool) -> None:
    """Delete an earlier bundle or file at ``output`` where that is wanted; ``InputError`` for anything else there."""
    _check_replaceable(output, force)
    _remove(output)
