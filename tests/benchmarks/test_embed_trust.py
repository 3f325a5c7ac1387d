from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from evidence import embed_trust
from evidence.hostile_bundles import HOSTILE, Hostile, Watch, plant
from evidence.table import EvidenceError
from evidence.tampering import CLASSES, another_bundle, mutations

from pocketformer.export.signing import sign_bundle
from pocketformer.runtime.errors import PocketformerError
from pocketformer.runtime.model import load
from pocketformer.runtime.verify import verify

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture(scope="module")
def subject(small_bundle: Path, key_pair: tuple[Path, Path], tmp_path_factory: Any) -> Any:
    folder = tmp_path_factory.mktemp("trust")
    signed = Path(shutil.copytree(small_bundle, folder / "signed"))
    private, public = key_pair
    sign_bundle(signed, private)
    return SimpleNamespace(
        bundle=small_bundle, signed=signed, private_key=private, public_key=public, work=folder,
        host=lambda name: [sys.executable, "-c", "import sys; sys.exit(int(sys.argv[1] == 'verify') * 3)"],
    )  # fmt: skip


def test_mutations_are_seeded_and_of_every_class_and_kind(subject: Any, tmp_path: Path) -> None:
    other = another_bundle(subject.signed, tmp_path / "other", subject.private_key)
    made = list(mutations(subject.signed, other, 60))
    assert made == list(mutations(subject.signed, other, 60))
    assert {m.of for m in made} == set(CLASSES)
    assert {m.kind for m in made} == {"flip", "insert", "delete", "truncate", "swap", "restate"}
    for mutation in made:
        changed = [n for n, content in mutation.files.items() if (subject.signed / n).read_bytes() != content]
        assert changed, mutation.kind


def test_changed_bundles_are_refused(subject: Any) -> None:
    found = embed_trust.tampered(subject, "python", 60)
    assert found.value == 60, found.how


def test_a_host_that_takes_everything_or_nothing_is_seen(subject: Any) -> None:
    with pytest.raises(EvidenceError, match="does not take"):
        embed_trust.tampered(subject, "node", 5)
    found = embed_trust.hostile(subject, "node")
    assert found.value == len(HOSTILE)
    assert "exit code 3" in found.how


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name.replace(" ", "-"))
def test_what_is_made_to_mislead_is_refused_unopened(
    case: Hostile, small_bundle: Path, tmp_path: Path
) -> None:
    bundle, outside = plant(case, small_bundle, tmp_path)
    watch = Watch(outside)
    try:
        report = verify(bundle)
        with contextlib.suppress(
            PocketformerError
        ):  # it leaves golden samples alone, and takes what is else right
            load(bundle)
        assert watch.opened() == []
    finally:
        watch.close()
    assert not report.ok


def test_the_watch_sees_files_that_are_opened(small_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_bundle, tmp_path / "outside"))
    (tmp_path / "link").symlink_to(folder / "model.onnx")
    watch = Watch(folder)
    assert watch.opened() == []
    (folder / "README.md").stat()
    assert watch.opened() == []
    os.close(os.open(tmp_path / "link", os.O_RDONLY))
    assert watch.opened() == ["model.onnx"]
    assert verify(folder).ok
    assert {"model.onnx", "tokenizer.json"} <= set(watch.opened())
    watch.close()
