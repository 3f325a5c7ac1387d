"""Target profiles: one small YAML file says what a device is and how to reach it.

Shipped profiles stand in ``profiles/`` beside this file and are found by name; a user's own file is found by
its path. docs/targets.md describes every key. Pydantic reads the annotations when the module is imported, so
they are spelled for Python 3.9, on which the light commands run.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from pocketformer.runtime.errors import InputError, RecipeError

_PROFILES = Path(__file__).parent / "profiles"
# Neither user nor host begins with a dash, which ssh would take for an option.
_SSH = re.compile(
    r"ssh://[A-Za-z0-9_][A-Za-z0-9._-]*@(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::([1-9][0-9]{0,4}))?"
)
# Where the profile names none; TensorRT has no execution providers.
_PROVIDERS = {"onnxruntime": ("CPUExecutionProvider",), "onnxruntime-web": ("wasm",)}


class TargetProfile(BaseModel):
    """What a device is. Unknown keys and wrong types are errors; nothing is converted in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        strict=True,
        pattern=r"^[a-z0-9][a-z0-9._-]*$",
        description="Short name; a run's bundle is written to bundles/<name>/ of its first target.",
    )
    description: str = Field(strict=True, min_length=1, description="One line for people.")
    architecture: Literal["any", "x86_64", "aarch64"] = Field(
        default="any", description="Processor architecture that the bundle must run on."
    )
    runtime: Literal["onnxruntime", "onnxruntime-web", "tensorrt", "tensorrt-rtx"] = Field(
        default="onnxruntime", description="The engine that runs the model there."
    )
    runtime_version: Optional[str] = Field(
        default=None,
        strict=True,
        pattern=r"^\d+(\.\d+)*$",
        description='Version of that engine on the device, quoted: "10.3"; null: any.',
    )
    providers: tuple[str, ...] = Field(
        default=None,
        validate_default=True,
        description="Execution providers of that engine, the preferred one first; null: the engine's usual.",
    )
    other_runtimes: tuple[Literal["openvino"], ...] = Field(
        default=(),
        description="Engines that a bundle may be made for in place of `runtime` when they measure faster.",
    )
    precisions: tuple[Literal["fp32", "fp16", "int8"], ...] = Field(
        default=("fp32", "int8"), min_length=1, description="Precisions worth trying on the device."
    )
    compute_capability: Optional[str] = Field(
        default=None, strict=True, pattern=r"^\d+\.\d+$", description='Of an NVIDIA GPU, quoted: "8.7".'
    )
    memory_mb: Optional[int] = Field(
        default=None, strict=True, gt=0, description="Memory of the device, 10^6 bytes; null: not known."
    )
    power_modes: tuple[str, ...] = Field(default=(), description="Names of the device's power modes.")
    dla_cores: Optional[int] = Field(
        default=None,
        strict=True,
        ge=0,
        description="Deep Learning Accelerators of a Jetson, which nothing here uses; null: not known.",
    )
    jetpack: tuple[Annotated[int, Field(strict=True, gt=0)], ...] = Field(
        default=(), description="Major releases of JetPack that run on the device."
    )
    reach: str = Field(
        default="local",
        strict=True,
        description="How the device is reached: local, emulated or ssh://user@host, with :port if not 22.",
    )
    threads: int = Field(
        default=0, strict=True, ge=0, description="Threads inside one operator; 0: all cores available."
    )

    @field_validator("providers", mode="before")
    @classmethod
    def _usual_providers(cls, value: object, info: ValidationInfo) -> object:
        return _PROVIDERS.get(info.data.get("runtime", ""), ()) if value is None else value

    @field_validator("providers")
    @classmethod
    def _some_providers(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        runtime = info.data.get("runtime")
        if runtime is not None and bool(value) != (runtime in _PROVIDERS):
            raise ValueError(f"{runtime} needs at least one" if not value else f"{runtime} has none")
        return value

    @field_validator("reach")
    @classmethod
    def _known_reach(cls, value: str) -> str:
        ssh = _SSH.fullmatch(value)
        if ssh is None and value not in ("local", "emulated"):
            raise ValueError("should be local, emulated or ssh://user@host[:port]")
        if ssh is not None and int(ssh[1] or 22) > 65535:
            raise ValueError(f"there is no port {ssh[1]}")
        return value

    def to_dict(self) -> dict[str, Any]:
        """The profile as plain values, for JSON and YAML."""
        return self.model_dump(mode="json")


def list_targets() -> tuple[TargetProfile, ...]:
    """The shipped profiles, by name."""
    return tuple(load_profile(path) for path in _shipped().values())


def find_target(name_or_path: Union[str, Path]) -> TargetProfile:
    """The shipped profile of that name, or the profile in that YAML file.

    A value that ends in .yaml or .yml, or that holds a slash, is a path. ``InputError`` for an unknown name
    (the nearest is suggested) or a missing file, ``RecipeError`` for a file that is no valid profile.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith((".yaml", ".yml")) or "/" in text or "\\" in text:
        return load_profile(Path(name_or_path))
    shipped = _shipped()
    if text in shipped:
        return load_profile(shipped[text])
    known = ", ".join(shipped)
    near = _nearest(text, list(shipped))
    raise InputError(
        f"there is no target {text!r}; known are: {known}",
        hint=f"Did you mean {near!r}?" if near else "Use one of these, or the path of a profile (.yaml).",
    )


def load_profile(path: Path) -> TargetProfile:
    """Read and check one profile; ``InputError`` or ``RecipeError`` name the file and what is wrong in it."""
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such target profile", hint="Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a target profile ({error})") from error
    try:
        values: Any = yaml.safe_load(content)
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"{path}: is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(
            f"{path}: is not a target profile",
            hint="It needs keys such as name and description; see docs/targets.md.",
        )
    try:
        return TargetProfile.model_validate(values)
    except ValidationError as error:
        message, hint = _explain(error)
        raise RecipeError(f"{path}: {message}", hint=hint) from error


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_PROFILES.glob("*.yaml"))}


def _explain(error: ValidationError) -> tuple[str, str]:
    """All that is wrong in one message, and what to do about the first."""
    known = list(TargetProfile.model_fields)
    parts, hints = [], []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            near = _nearest(key, known)
            parts.append(f"unknown key {key!r}")
            hints.append(f"Did you mean {near!r}?" if near else f"Known keys: {', '.join(known)}.")
        elif problem["type"] == "missing":
            parts.append(f"{key!r} is missing")
            hints.append(f"{key}: {TargetProfile.model_fields[key].description}")
        else:
            reason = problem["msg"].removeprefix("Value error, ")
            reason = reason[:1].lower() + reason[1:]
            parts.append(f"{key!r} is {problem['input']!r}: {reason}")
            field = TargetProfile.model_fields.get(str(problem["loc"][0])) if problem["loc"] else None
            hints.append(f"{problem['loc'][0]}: {field.description}" if field else "See docs/targets.md.")
    return "; ".join(parts), hints[0]


def _nearest(name: str, known: Sequence[str]) -> Optional[str]:
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return near[0] if near else None
