"""Profiles: the shipped ones are valid, a user's own loads by path, mistakes are named with the nearest key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketformer.runtime import providers
from pocketformer.runtime.errors import DeviceError, InputError, PocketformerError, RecipeError
from pocketformer.targets.profile import TargetProfile, find_target, list_targets
from pocketformer.targets.support import (
    BUILT_HERE,
    BUILT_THERE,
    MEASURED_HERE,
    NOT_YET,
    ON_GPU,
    OVER_SSH,
    missing_for_gpu,
    require_gpu,
    require_usable,
    support,
    what_is_missing,
)

OWN = {"name": "my-board", "description": "A board on my desk", "architecture": "aarch64", "threads": 4}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


SHIPPED = {
    "android-arm64": "onnxruntime",
    "browser": "onnxruntime-web",
    "cpu": "onnxruntime",
    "gpu": "onnxruntime",
    "jetson-agx-orin": "tensorrt",
    "jetson-orin-nano": "tensorrt",
    "jetson-orin-nx": "tensorrt",
    "jetson-thor": "tensorrt",
    "raspberry-pi-4": "onnxruntime",
    "raspberry-pi-5": "onnxruntime",
    "tensorrt-rtx-sm120": "tensorrt-rtx",
    "tensorrt-rtx-sm80": "tensorrt-rtx",
    "tensorrt-rtx-sm86": "tensorrt-rtx",
    "tensorrt-rtx-sm89": "tensorrt-rtx",
}


def test_shipped_profiles_are_found_by_their_name() -> None:
    assert {profile.name: profile.runtime for profile in list_targets()} == SHIPPED
    for profile in list_targets():
        assert find_target(profile.name) == profile
    cpu = find_target("cpu")
    assert cpu.providers == ("CPUExecutionProvider",)
    assert (cpu.reach, cpu.runtime, cpu.threads) == ("local", "onnxruntime", 0)


def test_facts_of_shipped_profiles() -> None:
    for name in ("jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin"):
        assert find_target(name).compute_capability == "8.7"
        assert find_target(name).jetpack == (5, 6, 7)
    assert find_target("jetson-thor").compute_capability == "11.0"
    dla = {name: find_target(name).dla_cores for name in SHIPPED}
    assert {name: cores for name, cores in dla.items() if cores is not None} == {
        "jetson-agx-orin": 2,
        "jetson-orin-nano": 0,
        "jetson-orin-nx": 2,
    }
    for name in SHIPPED:
        if "-sm" in name:
            digits = name.rpartition("-sm")[2]
            assert find_target(name).compute_capability == f"{digits[:-1]}.{digits[-1]}"


def test_only_the_processor_here_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    assert [profile.name for profile in list_targets() if support(profile) == MEASURED_HERE] == ["cpu"]
    assert support(find_target("jetson-orin-nano")) == NOT_YET
    reasons = {
        "browser": "its engine is onnxruntime-web",
        "jetson-orin-nano": "its engine is tensorrt",
        "raspberry-pi-4": "nothing says at which address it, or an emulator of it, is reached",
    }
    for name, reason in reasons.items():
        assert what_is_missing(find_target(name)) == reason
        with pytest.raises(DeviceError, match=f"target '{name}' cannot be measured: ") as caught:
            require_usable(find_target(name))
        assert "--target" in (caught.value.hint or "") or "fleet file" in (caught.value.hint or "")
    for own, reason in [
        ({}, "its processor is aarch64 and this machine's is x86_64"),
        ({"providers": ["DmlExecutionProvider", "CPUExecutionProvider"]}, "it uses DmlExecutionProvider"),
        ({"architecture": "x86_64"}, None),
    ]:
        profile = find_target(write(tmp_path / "own.yaml", {**OWN, **own}))
        assert what_is_missing(profile) == reason
    assert require_usable(profile) == MEASURED_HERE
    far = find_target(write(tmp_path / "own.yaml", {**OWN, "reach": "ssh://me@board"}))
    assert require_usable(far) == OVER_SSH
    assert support(find_target("tensorrt-rtx-sm89")) == BUILT_HERE
    for runtime in ("tensorrt", "tensorrt-rtx"):
        elsewhere = {**OWN, "runtime": runtime, "reach": "ssh://me@board"}
        assert require_usable(find_target(write(tmp_path / "own.yaml", elsewhere))) == BUILT_THERE
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert "aarch64" in (what_is_missing(profile) or "")
    assert [profile.name for profile in list_targets() if support(profile) == MEASURED_HERE] == ["cpu"]


def test_a_gpu_is_measured_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "DRIVER_LIBRARY", "libno-such-driver.so.1")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpu = find_target("gpu")
    assert (support(gpu), what_is_missing(gpu)) == (ON_GPU, None)
    missing = missing_for_gpu(gpu)
    assert any("no NVIDIA driver (libno-such-driver" in reason for reason in missing)
    assert any("nvidia-ml-py is not installed" in reason for reason in missing)
    if providers.CUDA_PROVIDER not in onnxruntime.get_available_providers():
        assert any("was built without it" in reason for reason in missing)
    with pytest.raises(DeviceError, match="target 'gpu' cannot be measured on this machine: ") as caught:
        require_gpu(gpu)
    assert all(reason in caught.value.message for reason in missing)
    assert missing_for_gpu(find_target("cpu")) == ()
    own = {**OWN, "architecture": "any", "providers": ["CUDAExecutionProvider"]}
    assert support(find_target(write(tmp_path / "strict.yaml", own))) == ON_GPU
    far = find_target(write(tmp_path / "far.yaml", {**own, "reach": "ssh://me@board"}))
    with pytest.raises(DeviceError, match="a GPU is measured on the machine that runs this") as caught:
        require_usable(far)
    assert "processor is measured" in (caught.value.hint or "")


def test_a_users_own_profile_loads_by_path(tmp_path: Path) -> None:
    path = write(tmp_path / "board.yaml", OWN)
    profile = find_target(path)
    assert profile == find_target(str(path))
    assert (profile.name, profile.architecture, profile.threads) == ("my-board", "aarch64", 4)
    assert profile.precisions == ("fp32", "int8")
    assert find_target(write(tmp_path / "again.yml", profile.to_dict())) == profile
    with pytest.raises(ValueError, match="frozen"):
        profile.threads = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("runtime", "usual"),
    [("onnxruntime", ("CPUExecutionProvider",)), ("onnxruntime-web", ("wasm",)), ("tensorrt", ())],
)
def test_an_engine_has_its_usual_providers(tmp_path: Path, runtime: str, usual: tuple[str, ...]) -> None:
    profile = find_target(write(tmp_path / "own.yaml", {**OWN, "runtime": runtime}))
    assert profile.providers == usual
    assert find_target(write(tmp_path / "again.yaml", profile.to_dict())) == profile


@pytest.mark.parametrize(
    "reach", ["local", "emulated", "ssh://me@board", "ssh://me@10.0.0.7:2222", "ssh://a.b@[fe80::1]:22"]
)
def test_a_device_is_reached(tmp_path: Path, reach: str) -> None:
    assert find_target(write(tmp_path / "own.yaml", {**OWN, "reach": reach})).reach == reach


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(InputError, match=r"no target 'cpus'; known are: android-arm64, .*cpu, ") as caught:
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
        (
            {**OWN, "reach": "ssh"},
            "'reach' is 'ssh': should be local, emulated or ssh://user@host",
            "reached",
        ),
        ({**OWN, "reach": "ssh://board"}, "'reach' is 'ssh://board'", "reached"),
        ({**OWN, "reach": "ssh://-oProxyCommand=x@board"}, "should be local", "reached"),
        ({**OWN, "reach": "ssh://me@-board"}, "should be local", "reached"),
        ({**OWN, "reach": "ssh://me@board:0"}, "should be local", "reached"),
        ({**OWN, "reach": "ssh://me@board:65536"}, "there is no port 65536", "reached"),
        ({**OWN, "reach": "ssh://me@board\n"}, "should be local", "reached"),
        ({**OWN, "runtime": "tensorflow"}, "'runtime' is 'tensorflow'", "engine"),
        ({**OWN, "runtime": "tensorrt", "providers": ["x"]}, "tensorrt has none", "providers"),
        ({**OWN, "runtime_version": 10.3}, "'runtime_version' is 10.3", '"10.3"'),
        ({**OWN, "runtime_version": "ten"}, "'runtime_version' is 'ten'", '"10.3"'),
        ({**OWN, "jetpack": [6, "7"]}, "'jetpack.1' is '7'", "JetPack"),
        ({**OWN, "jetpack": [0]}, "'jetpack.0' is 0", "JetPack"),
        ({**OWN, "precisions": ["int8", "int3"]}, "'precisions.1' is 'int3'", "Precisions"),
        ({**OWN, "providers": []}, "'providers' is []: onnxruntime needs at least one", "providers"),
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


@settings(max_examples=100)
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


def test_every_shipped_profile_has_a_row_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "targets.md").read_text(encoding="utf-8")
    for profile in list_targets():
        assert f"| `{profile.name}` |" in text


def test_importing_the_room_stays_light() -> None:
    heavy = "('torch', 'onnxruntime', 'transformers', 'mlperf_loadgen', 'numpy', 'pydantic')"
    code = f"import sys; import pocketformer.targets; print([n for n in {heavy} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
