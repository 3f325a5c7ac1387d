"""Models and environments of peers are kept while nothing that they depend on changed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from evidence.table import EvidenceError
from peers.artefacts import Artefact, made_artefact
from peers.environments import Environments
from peers.setups import PROJECT, SETUPS

MAKER = """
import json, sys
from pathlib import Path
job = json.loads(Path(sys.argv[1]).read_text())
if job.get("fail"):
    sys.exit("there is no such operator")
output = Path(job["output"])
assert not list(output.iterdir())
(output / "model.onnx").write_bytes(b"x" * 2000)
with open(job["count"], "a") as file:
    file.write("made\\n")
made = {"model": "model.onnx", "ships": ["model.onnx"], "versions": {"onnx": "1"}, "how": {"per_channel": True}}
(output / "made.json").write_text(json.dumps(made))
"""


class Making:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.inside = folder / "inside"
        self.inside.mkdir()
        (self.inside / "make.py").write_text(MAKER)
        self.count = folder / "count.txt"

    def __call__(self, *, teacher: str = "t", place: str = "here", **job: object) -> Artefact:
        return made_artefact(
            self._folder / "models" / "peer",
            "make.py",
            {"count": str(self.count), **job},
            inputs={"teacher": Path(place)},
            depends_on={"teacher": teacher},
            python=Path(sys.executable),
            variables={},
            say=lambda _: None,
            inside=self.inside,
        )

    def times(self) -> int:
        return len(self.count.read_text().splitlines())


@pytest.fixture
def making(tmp_path: Path) -> Making:
    return Making(tmp_path)


def test_a_model_is_made_once(making: Making) -> None:
    first, again, moved = making(), making(), making(place="there")
    assert first == again == moved
    assert making.times() == 1
    assert first.file_mb == 0.002
    assert first.how["per_channel"]
    assert first.versions == {"onnx": "1"}


def test_it_is_made_anew_for_another_teacher_other_settings_or_other_code(making: Making) -> None:
    keys = {making().key, making(teacher="another").key, making(settings={"ratio": 0.5}).key}
    (making.inside / "make.py").write_text(MAKER + "\n# another way\n")
    keys.add(making(settings={"ratio": 0.5}).key)
    assert len(keys) == 4
    assert making.times() == 4


def test_it_is_made_anew_when_its_file_is_gone(making: Making) -> None:
    making().model.unlink()
    assert making().model.is_file()
    assert making.times() == 2


def test_a_failure_has_the_makers_last_words_and_is_tried_again(making: Making) -> None:
    with pytest.raises(EvidenceError, match="exit code 1: there is no such operator"):
        making(fail=True)
    assert making().model.is_file()


def test_every_environment_of_the_grid_has_its_pins() -> None:
    from peers.environments import REQUIREMENTS

    wanted = {setup.environment for setup in SETUPS} - {PROJECT}
    assert {path.stem for path in REQUIREMENTS.glob("*.txt")} == wanted
    for name in wanted:
        lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
        assert all("==" in line for line in lines if line and not line.startswith("#")), name


def test_an_environment_that_cannot_be_installed_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "peer.txt").write_text("this is no requirement\n")
    said: list[str] = []
    environments = Environments(tmp_path / "made", root=tmp_path, say=said.append, requirements=tmp_path)
    for _ in range(2):
        with pytest.raises(EvidenceError, match="environment peer could not be installed: "):
            environments.python("peer")
    assert len(said) == 1
    assert not (tmp_path / "made" / "peer" / "key.txt").exists()


def test_the_projects_own_environment_is_this_one(tmp_path: Path) -> None:
    environments = Environments(tmp_path, root=tmp_path, say=lambda _: None)
    assert environments.python(PROJECT) == Path(sys.executable)
    assert environments.key(PROJECT) == environments.key(PROJECT)
    assert environments.variables(2)["OMP_NUM_THREADS"] == "2"
