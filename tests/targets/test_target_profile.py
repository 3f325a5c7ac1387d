"""Profiles: the shipped one is valid, a user's own loads by path, mistakes are named with the nearest key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketformer.runtime.errors import InputError, PocketformerError, RecipeError
from pocketformer.targets.profile import TargetProfile, find_target, list_targets

OWN = {"name": "my-board", "description": "A board on my desk", "architecture": "aarch64", "threads": 4}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_shipped_profiles_are_found_by_their_name() -> None:
    assert [profile.name for profile in list_targets()] == ["cpu"]
    for profile in list_targets():
        assert find_target(profile.name) == profile
    cpu = find_target("cpu")
    assert cpu.providers == ("CPUExecutionProvider",)
    assert (cpu.reach, cpu.runtime, cpu.threads) == ("local", "onnxruntime", 0)


def test_a_users_own_profile_loads_by_path(tmp_path: Path) -> None:
    path = write(tmp_path / "board.yaml", OWN)
    profile = find_target(path)
    assert profile == find_target(str(path))
    assert (profile.name, profile.architecture, profile.threads) == ("my-board", "aarch64", 4)
    assert profile.precisions == ("fp32", "int8")
    assert find_target(write(tmp_path / "again.yml", profile.to_dict())) == profile
    with pytest.raises(ValueError, match="frozen"):
        profile.threads = 1  # type: ignore[misc]


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(InputError, match="no target 'cpus'; known are: cpu") as caught:
        find_target("cpus")
    assert caught.value.hint == "Did you mean 'cpu'?"
    with pytest.raises(InputError, match="no such target profile"):
        find_target("./cpu.yaml")


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ({**OWN, "thread": 4}, "unknown key 'thread'", "'threads'"),
        ({**OWN, "colour": "red"}, "unknown key 'colour'", "Known keys: name"),
        ({**OWN, "threads": "4"}, "'threads' is '4'", "Threads inside one operator"),
        ({**OWN, "threads": -1}, "'threads' is -1", "Threads"),
        ({**OWN, "memory_mb": 0}, "'memory_mb' is 0", "Memory"),
        ({**OWN, "reach": "ssh"}, "'reach' is 'ssh'", "reached"),
        ({**OWN, "precisions": ["int8", "int3"]}, "'precisions.1' is 'int3'", "Precisions"),
        ({**OWN, "providers": []}, "'providers' is", "providers"),
        ({**OWN, "compute_capability": 8.7}, "'compute_capability' is 8.7", '"8.7"'),
        ({**OWN, "name": "../up"}, "'name' is '../up'", "Short name"),
        ({"description": "no name"}, "'name' is missing", "Short name"),
        ({**OWN, 3: "three"}, "'3'", ""),
        (["a", "list"], "not a target profile", "docs/targets.md"),
        ("", "not a target profile", "docs/targets.md"),
        ("name: [", "is not YAML", ""),
        ("name: !!python/object/apply:os.getcwd []", "is not YAML", ""),
    ],
)
def test_mistakes_are_named_with_the_file(tmp_path: Path, content: object, message: str, hint: str) -> None:
    path = write(tmp_path / "board.yaml", content)
    with pytest.raises(RecipeError) as caught:
        find_target(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.dictionaries(
        st.sampled_from([*TargetProfile.model_fields, "x"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.lists(st.text(max_size=3)),
    )
)
def test_any_values_give_a_profile_or_our_own_error(tmp_path: Path, values: dict[str, object]) -> None:
    path = write(tmp_path / "any.yaml", {**OWN, **values})
    message = "no error"
    try:
        assert find_target(path).name
    except PocketformerError as error:
        message = error.message
    assert message == "no error" or str(path) in message


def test_every_key_is_described_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "targets.md").read_text(encoding="utf-8")
    for name, field in TargetProfile.model_fields.items():
        assert f"| `{name}` |" in text
        assert field.description


def test_importing_the_room_stays_light() -> None:
    heavy = "('torch', 'onnxruntime', 'transformers', 'mlperf_loadgen', 'numpy', 'pydantic')"
    code = f"import sys; import pocketformer.targets; print([n for n in {heavy} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
