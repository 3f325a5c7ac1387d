from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from evidence.table import EvidenceError
from evidence.workspace import Repository, child_environment, end_of, output_of, run_logged


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(
        ["git", *identity, *arguments], cwd=folder, env=environment, check=True, capture_output=True
    )


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = tmp_path / "checkout"
    (root / "pocketformer" / "deep").mkdir(parents=True)
    (root / "pocketformer" / "deep" / "module.py").write_text("x = 1\n")
    (root / "pyproject.toml").write_text("[project]\n")
    (root / "Makefile").write_text("demo:\n")
    (root / "README.md").write_text("Read\n")
    (root / ".gitignore").write_text("out/\n__pycache__/\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "First")
    return Repository(root=root)


def test_the_key_follows_the_code_and_nothing_else(repository: Repository) -> None:
    key = repository.code_key()
    assert repository.code_key() == key
    assert len(key) == 16
    module = repository.root / "pocketformer" / "deep" / "module.py"
    cache = module.parent / "__pycache__"
    cache.mkdir()
    (cache / "module.cpython-311.pyc").write_bytes(b"x")
    (repository.root / "README.md").write_text("Read more\n")
    git(repository.root, "commit", "--quiet", "-a", "-m", "Documentation")
    assert repository.code_key() == key
    module.write_text("x = 2\n")
    changed = repository.code_key()
    assert changed != key
    module.write_text("x = 1\n")
    assert repository.code_key() == key
    module.rename(module.with_name("renamed.py"))
    assert repository.code_key() not in (key, changed)


@pytest.mark.parametrize("name", ["pyproject.toml", "Makefile", "pocketformer/new.py"])
def test_the_key_sees_each_part_of_the_code(repository: Repository, name: str) -> None:
    key = repository.code_key()
    (repository.root / name).write_text("changed\n")
    assert repository.code_key() != key


def test_the_key_follows_the_code_that_is_named_and_never_results(repository: Repository) -> None:
    root = repository.root
    other = Repository(root=root, code=("benchmarks",))
    (root / "benchmarks" / "results").mkdir(parents=True)
    (root / "benchmarks" / "rows.py").write_text("x = 1\n")
    key = other.code_key()
    (root / "pocketformer" / "deep" / "module.py").write_text("x = 2\n")
    (root / "benchmarks" / "results" / "devices.json").write_text("{}")
    assert other.code_key() == key
    assert Repository(root=root, code=("benchmarks",), versions=("onnx==1",)).code_key() != key
    (root / "benchmarks" / "rows.py").write_text("x = 2\n")
    assert other.code_key() != key


def test_dirty(repository: Repository) -> None:
    assert not repository.dirty()
    results = repository.root / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "demo.json").write_text("{}")
    (repository.root / "out").mkdir()
    (repository.root / "out" / "x").write_text("ignored")
    assert not repository.dirty()
    (repository.root / "new.txt").write_text("untracked")
    assert repository.dirty()


def test_a_clean_clone_is_the_commit(repository: Repository, tmp_path: Path) -> None:
    said = repository.clone(tmp_path / "clone")
    assert said == f"a git clone of {repository.commit()[:10]}"
    assert (tmp_path / "clone" / "pocketformer" / "deep" / "module.py").read_text() == "x = 1\n"


def test_the_clone_of_a_dirty_tree_has_its_changes(repository: Repository, tmp_path: Path) -> None:
    root, clone = repository.root, tmp_path / "clone"
    (root / "pocketformer" / "deep" / "module.py").write_text("x = 3\n")
    (root / "pocketformer" / "new.py").write_text("y = 1\n")
    (root / "README.md").unlink()
    (root / "out").mkdir()
    (root / "out" / "secret").write_text("ignored")
    assert "3 changed files" in repository.clone(clone)
    assert (clone / "pocketformer" / "deep" / "module.py").read_text() == "x = 3\n"
    assert (clone / "pocketformer" / "new.py").is_file()
    assert not (clone / "README.md").exists()
    assert not (clone / "out").exists()


def test_children_inherit_no_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OMP_NUM_THREADS", "MAKEFLAGS", "PYTHONPATH", "VIRTUAL_ENV", "GIT_DIR", "PIP_CACHE_DIR"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_INDEX_URL", "https://example.org")
    environment = child_environment(tmp_path)
    assert not {
        "OMP_NUM_THREADS",
        "MAKEFLAGS",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "GIT_DIR",
        "PIP_CACHE_DIR",
    } & set(environment)
    assert environment["PIP_INDEX_URL"] == "https://example.org"
    assert environment["XDG_CACHE_HOME"] == str(tmp_path)
    assert "PATH" in environment


def test_run_logged_keeps_output_and_exit_code(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "log.txt"
    program = "import sys; print('hello'); print('bad', file=sys.stderr); sys.exit(3)"
    code, seconds = run_logged(
        [sys.executable, "-c", program], log=log, environment=os.environ, folder=tmp_path
    )
    assert code == 3
    assert seconds > 0
    assert "hello" in end_of(log)
    assert "bad" in end_of(log)


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(EvidenceError, match="did not end"):
        run_logged(
            [sys.executable, "-c", program],
            log=tmp_path / "log",
            environment=os.environ,
            folder=tmp_path,
            limit_s=2,
        )
    status = Path("/proc") / (tmp_path / "pid").read_text() / "status"
    deadline = time.monotonic() + 5
    while status.exists() and "State:\tZ" not in status.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not status.exists() or "State:\tZ" in status.read_text()


def test_output_of_says_why_a_program_failed(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"exit code 1.*no such thing"):
        output_of(
            [sys.executable, "-c", "raise SystemExit('no such thing')"],
            environment=os.environ,
            folder=tmp_path,
        )
