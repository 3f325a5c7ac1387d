"""The recipe: everything that a run needs to know, in one YAML file.

A recipe that a run has *resolved* also holds every choice that was made by measuring, so that running it again
makes no choice anew.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from pocketformer.pipeline.steps import STEP_NAMES, config_class
from pocketformer.runtime.errors import RecipeError


class DataSection(BaseModel):
    """Where the texts and labels are. Without ``test`` accuracy is not measured, only agreement.

    ``unlabeled``: further texts, of which only the teacher's opinion is learned.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: Path
    validation: Path | None = None
    test: Path | None = None
    unlabeled: Path | None = None
    text_column: str = "text"
    label_column: str | None = "label"
    validation_fraction: float = Field(default=0.1, gt=0, lt=0.5)


class BudgetSection(BaseModel):
    """What the result may cost; None: no limit.

    ``max_drop`` is a fraction of 1 for bounded metrics; ``max_latency_ms`` the p50 of one call of the workload
    ``latency_workload``; sizes and memory (peak, of a fresh process) are 10^6 bytes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_drop: float | None = Field(default=0.01, ge=0, le=1)
    max_latency_ms: float | None = Field(default=None, gt=0)
    latency_workload: Literal["real", "1x32", "1x128", "8x128"] = "real"
    max_size_mb: float | None = Field(default=None, gt=0)
    max_memory_mb: float | None = Field(default=None, gt=0)


class StepSection(BaseModel):
    """One step: its name and its configuration, checked against the step's own dataclass."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    name: str
    config: Any

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        # In YAML a step is written `- distill: {layers: 3}` or just `- report`.
        if isinstance(value, str):
            value = {value: {}}
        if not isinstance(value, Mapping) or set(value) == {"name", "config"}:
            return value
        if len(value) != 1:
            raise ValueError(
                "a step is written as one name with its settings, for example `- distill: {layers: 3}`"
            )
        ((name, settings),) = value.items()
        if name not in STEP_NAMES:
            raise ValueError(
                f"there is no step {name!r}{_nearest(name, STEP_NAMES)}; steps: {', '.join(STEP_NAMES)}"
            )
        return {
            "name": name,
            "config": build_config(config_class(name), settings or {}, where=f"steps: {name}"),
        }


class Recipe(BaseModel):
    """A run, described. Relative paths in a file are taken from the file's own folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path
    task: Literal["text-classification"] = "text-classification"
    data: DataSection | None = None
    targets: tuple[str, ...] = ("cpu",)
    budget: BudgetSection = BudgetSection()
    metric: str | None = None
    max_length: int = Field(default=128, ge=4)
    seed: int = Field(default=0, ge=0)
    threads: int | None = Field(default=None, ge=1)
    steps: tuple[StepSection, ...] = ()
    choices: dict[str, Any] = Field(default_factory=dict)

    @field_validator("targets")
    @classmethod
    def _one_target(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one target")
        return value

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, source: str = "recipe") -> Recipe:
        """Check plain values; ``RecipeError`` that says which key is wrong and what it may be."""
        unknown = [key for key in values if key not in cls.model_fields]
        if unknown:
            raise RecipeError(
                f"{source}: unknown key {unknown[0]!r}{_nearest(unknown[0], cls.model_fields)}",
                hint=f"Keys: {', '.join(cls.model_fields)}.",
            )
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise RecipeError(f"{source}: {where}: {message}") from error

    @classmethod
    def from_file(cls, path: Path) -> Recipe:
        """Read a YAML file; relative paths are resolved against its folder."""
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RecipeError(f"no such file: {path}", hint="`pocketformer init` writes a recipe.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path} is not valid YAML: {error}") from error
        if not isinstance(values, Mapping):
            raise RecipeError(f"{path}: a recipe is a mapping of keys to values")
        return cls.from_mapping(values, source=str(path)).relative_to(path.resolve().parent)

    def relative_to(self, folder: Path) -> Recipe:
        """The same recipe with its relative paths taken from ``folder``."""
        data = self.data
        if data is not None:
            paths = {
                name: folder / value
                for name in ("train", "validation", "test", "unlabeled")
                if (value := getattr(data, name)) is not None
            }
            data = data.model_copy(update=paths)
        return self.model_copy(update={"model": folder / self.model, "data": data})

    def to_yaml(self) -> str:
        """The recipe as a YAML file that ``from_file`` reads back to an equal recipe."""
        values = self.model_dump(mode="json", exclude={"steps"}, exclude_none=True)
        if self.budget.max_drop is None:  # left out it would be the usual point
            values["budget"]["max_drop"] = None
        choices = values.pop("choices", {})
        values["steps"] = [
            {step.name: _without_defaults(step.config)} if _without_defaults(step.config) else step.name
            for step in self.steps
        ]
        if choices:
            values["choices"] = choices
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def build_config(kind: type[Any], values: Mapping[str, Any], *, where: str, base: Any = None) -> Any:
    """A config dataclass from plain values, unknown keys refused with the nearest name (``ValueError``).

    What ``values`` leave out is as in ``base`` (None: the defaults of ``kind``); a nested config starts from what
    its outer one has in its place.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: settings are a mapping of keys to values")
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    base = kind() if base is None else base
    ready: dict[str, Any] = {}
    for key, value in values.items():
        if key not in names:
            raise ValueError(
                f"{where}: unknown setting {key!r}{_nearest(key, names)}; settings: {', '.join(names)}"
            )
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            inner = typing.cast("type[Any]", hints[key])
            ready[key] = build_config(inner, value, where=f"{where}.{key}", base=getattr(base, key))
            continue
        try:
            ready[key] = TypeAdapter(hints[key]).validate_python(value)
        except ValidationError as error:
            raise ValueError(f"{where}.{key}: {error.errors()[0]['msg']}") from error
    return dataclasses.replace(base, **ready)


def plain(value: Any) -> Any:
    """A config as JSON has it: dataclasses become mappings, tuples lists, paths strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def digest(value: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys: the same for what is the same."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _without_defaults(config: Any) -> dict[str, Any]:
    default = type(config)()
    return {
        field.name: plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(default, field.name)
    }


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
