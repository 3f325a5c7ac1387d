"""Run a recipe: stage after stage into a run directory, from the last whole stage on."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.compress.ranks import follow, join, launched
from pocketformer.pipeline.artefacts import Artefacts
from pocketformer.pipeline.context import Listener, Made, RunContext, SilentListener, log
from pocketformer.pipeline.fleet import lacking_gpu, places_of, threads_here
from pocketformer.pipeline.inputs import load_splits, resolve_inputs, with_teacher_labels
from pocketformer.pipeline.preflight import preflight
from pocketformer.pipeline.recipe import Recipe, StepSection, digest, plain
from pocketformer.pipeline.rundir import RunDirectory
from pocketformer.pipeline.steps import Step, step_by_name
from pocketformer.runtime.engine import available_cores
from pocketformer.runtime.errors import InputError, RecipeError
from pocketformer.runtime.manifest import graph_files, sha256_directory, sha256_file

if TYPE_CHECKING:
    from pocketformer.pipeline.search.sharing import Sharing
    from pocketformer.report.schema import Report

_VERSIONED = (
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "optimum",
    "neural-compressor",
    "numpy",
    "tokenizers",
)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run leaves: its directory, its newest artefacts and, when the recipe measures, its report."""

    directory: Path
    artefacts: Artefacts
    records: tuple[Mapping[str, Any], ...]
    report: Report | None

    @property
    def bundles(self) -> dict[str, Path]:
        """Bundle directories by target."""
        return {path.name: path for path in sorted((self.directory / "bundles").glob("*")) if path.is_dir()}

    @property
    def budget_met(self) -> bool | None:
        """Whether the budget holds on the test split; None when it was not measured."""
        return None if self.report is None else self.report.budget_met


def run(
    recipe: Recipe,
    output: Path | str = "out",
    *,
    force: bool = False,
    listener: Listener | None = None,
    sharing: Sharing | None = None,
) -> RunResult:
    """Carry out ``recipe`` into the directory ``output``.

    A run that was interrupted goes on from its last whole stage. Errors are ``PocketformerError``; a budget that
    is not met is no error here: look at ``budget_met``. Started several times by torchrun, process 0 carries it out;
    the others train along, and end when it ends. With ``sharing`` several calls work at the search of one run: the
    first has the run directory, the others help until it has done, and all end with the same result.
    """
    if launched() and join().rank > 0:
        follow()
        raise SystemExit(0)
    if not recipe.steps:
        raise RecipeError(
            "the recipe has no steps", hint="`pocketformer init` writes a recipe with the usual ones."
        )
    if sharing is not None and not any(step.name == "search" for step in recipe.steps):
        raise RecipeError(
            "there is no search to share", hint="Leave the store out, or add a search to the steps."
        )
    output = Path(output)
    listener = listener or SilentListener()
    recipe, artefacts = resolve_inputs(recipe)
    splits, data_id = load_splits(recipe, artefacts)
    # The recipe that the run keeps is read again from another folder.
    recipe = recipe.relative_to(Path.cwd())
    recipe, metric = preflight(recipe, artefacts, splits)
    if any(step.name == "bench" for step in recipe.steps):
        for name, reasons in lacking_gpu(places_of(recipe)).items():
            listener.note(f"{name} cannot be measured: {'; '.join(reasons)}")

    def begin(directory: RunDirectory) -> RunContext:
        threads = threads_here(recipe)
        context = RunContext(
            recipe=recipe,
            directory=directory,
            artefacts=artefacts,
            metric=metric,
            threads=threads or available_cores(),
            threads_fixed=threads is not None,
            listener=listener,
            splits=splits,
            choices=dict(recipe.choices),
            sharing=sharing,
        )
        _limit_threads(context.threads)
        if splits is not None and splits.train.labels is None and artefacts.teacher is not None:
            context.splits = with_teacher_labels(splits, artefacts.teacher, recipe.max_length)
        return context

    identity = recipe_id(recipe, data_id)
    if sharing is None:
        directory = RunDirectory.open(output, recipe_id=identity, force=force)
    else:
        from pocketformer.pipeline.search.helping import open_or_help

        directory = open_or_help(output, identity, begin, force=force, sharing=sharing)
    handler = _log_to(directory.log_path)
    try:
        context = begin(directory)
        _run_stages(context, data_id)
        directory.drop_stages_after(len(recipe.steps))
        return RunResult(
            directory=output,
            artefacts=context.artefacts,
            records=tuple(context.records),
            report=_read_report(output) if any(step.name == "report" for step in recipe.steps) else None,
        )
    except InputError:
        # Wrong input that only a stage could notice: a directory with nothing finished is not left behind.
        directory.discard_if_new()
        raise
    finally:
        log.removeHandler(handler)
        handler.close()
        directory.close()


def recipe_id(recipe: Recipe, data_id: str) -> str:
    """The fingerprint by which a run directory knows its recipe; choices made by measuring do not count."""
    values = {
        "recipe": recipe.model_dump(mode="json", exclude={"steps", "choices"}),
        "steps": [[step.name, plain(step.config)] for step in recipe.steps],
        "data": data_id,
    }
    return digest(values)


def versions(names: tuple[str, ...] = _VERSIONED) -> dict[str, str]:
    """Installed versions of what decides a result."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _run_stages(context: RunContext, data_id: str) -> None:
    recipe, directory = context.recipe, context.directory
    # Recorded before the first stage, so that a run killed in it is known as a run and goes on.
    identity = recipe_id(recipe, data_id)
    _write_run(context, identity)
    context.listener.run_started([step.name for step in recipe.steps])
    key = digest(
        [data_id, _model_id(context.artefacts), recipe.seed, recipe.max_length, context.metric, versions()]
    )
    anew = False
    for index, section in enumerate(recipe.steps, start=1):
        context.index = index
        step = step_by_name(section.name)
        key = _stage_key(step, section, key, context)
        folder = directory.stage_path(index, step.name)
        context.listener.stage_started(step.name, index, len(recipe.steps))
        record = directory.finished_stage(index, step.name, key)
        # A stage of which part failed is made again, and with it what was made from it.
        context.earlier = folder if record is not None and record["details"].get("failed") else None
        anew = anew or context.earlier is not None
        reused = record is not None and not anew
        if record is None or anew:
            record = _make_stage(step, section, key, context)
        context.artefacts = context.artefacts.with_made(record["artefacts"], folder)
        if step.name == "finetune":
            context.artefacts = replace(context.artefacts, teacher=context.artefacts.model)
        context.choices.update(record["choices"])
        context.records.append(record)
        _write_run(context, identity)
        context.listener.stage_finished(step.name, record, reused=reused)
    resolved = recipe.model_copy(update={"choices": context.choices, "metric": context.metric})
    directory.write_text("recipe.yaml", resolved.to_yaml())


def _make_stage(step: Step, section: StepSection, key: str, context: RunContext) -> dict[str, Any]:
    started = time.perf_counter()
    with context.directory.writing_stage(context.index, step.name) as temporary:
        made: Made = step.function(section.config, context, temporary)
        record = {
            "name": step.name,
            "index": context.index,
            "version": step.version,
            "key": key,
            "config": plain(section.config),
            "artefacts": dict(made.artefacts),
            "metrics": dict(made.metrics),
            "notes": list(made.notes),
            "choices": dict(made.choices),
            "details": dict(made.details),
            "seconds": round(time.perf_counter() - started, 2),
            "versions": versions((*_VERSIONED, *step.packages)),
            "seed": context.recipe.seed,
            "outputs": _hash_outputs(temporary, made),
        }
        (temporary / "stage.json").write_text(
            json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8"
        )
    return record


def _stage_key(step: Step, section: StepSection, previous: str, context: RunContext) -> str:
    given = {name: context.recipe.choices[name] for name in step.choices if name in context.recipe.choices}
    judges = step.name in ("search", "choose", "quantize", "bench", "report")
    judges = judges or getattr(section.config, "cost", None) == "budget"
    budget = context.recipe.budget.model_dump(mode="json") if judges else None
    return digest(
        [
            step.name,
            step.version,
            plain(section.config),
            previous,
            context.threads,
            list(context.recipe.targets),
            given,
            budget,
            *([versions(step.packages)] if step.packages else []),
        ]
    )


def _write_run(context: RunContext, identity: str) -> None:
    base = context.directory.path
    context.directory.write_json(
        "run.json",
        {
            "schema_version": 1,
            "recipe_id": identity,
            "model": str(context.recipe.model.absolute()),
            "metric": context.metric,
            "label_names": list(context.splits.label_names) if context.splits else [],
            "threads": context.threads,
            "data_audit": context.splits.audit.to_dict() if context.splits else None,
            "artefacts": context.artefacts.to_json(base),
            "stages": context.records,
            "choices": context.choices,
        },
    )
    if context.splits is not None and not (base / "recipe.yaml").exists():
        context.directory.write_text("recipe.yaml", context.recipe.to_yaml())


def _hash_outputs(folder: Path, made: Made) -> dict[str, str]:
    hashes: dict[str, str] = {}
    for relative in made.artefacts.values():
        path = folder / relative
        parts = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else graph_files(path)
        hashes.update({str(file.relative_to(folder)): sha256_file(file) for file in parts if file.is_file()})
    return hashes


def _model_id(artefacts: Artefacts) -> str:
    source = artefacts.model or artefacts.quantized or artefacts.bundle
    if source is None:
        return ""
    return sha256_directory(source) if source.is_dir() else sha256_file(source)


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _log_to(path: Path) -> logging.Handler:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    return handler


def _read_report(directory: Path) -> Report | None:
    from pocketformer.report.storage import load_report

    return load_report(directory / "report.json")
