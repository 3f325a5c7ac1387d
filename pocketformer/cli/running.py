"""What all verbs that run a recipe do after parsing: run it, render the outcome, choose the exit code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from pocketformer.cli import Terminated
from pocketformer.cli.output import stdout_console
from pocketformer.runtime.errors import BudgetNotMetError, DeviceError

if TYPE_CHECKING:
    from pocketformer.pipeline.recipe import Recipe
    from pocketformer.pipeline.run import RunResult


def run_and_render(
    recipe: Recipe,
    output: Path,
    *,
    force: bool,
    as_json: bool,
    dry_run: bool = False,
    store: Optional[str] = None,
) -> int:
    """Run ``recipe`` into ``output`` (or only say what would be done); the exit code.

    ``store``: the database of a search that other processes share.
    """
    if dry_run:
        return _render_plan(recipe, as_json=as_json)
    from pocketformer.cli.progress import TerminalListener
    from pocketformer.pipeline.run import run

    sharing = None
    if store is not None:
        from pocketformer.pipeline.search.sharing import Sharing

        sharing = Sharing(store=store)
    try:
        with TerminalListener() as listener:
            result = run(recipe, output, force=force, listener=listener, sharing=sharing)
    except (KeyboardInterrupt, Terminated):
        click.echo("\nRun the same command again: it goes on from the last finished stage.", err=True)
        raise
    if as_json:
        click.echo(json.dumps(_as_json(result), ensure_ascii=False))
    else:
        _render(result)
    failed = _failed_devices(result)
    for device in failed:
        click.echo(f"Error: {device['name']}: {device['error']}", err=True)
        if device["hint"]:
            click.echo(f"  {device['hint']}", err=True)
    if failed:
        click.echo("The same command again tries what failed, and measures nothing else anew.", err=True)
        return DeviceError.exit_code
    return BudgetNotMetError.exit_code if result.budget_met is False else 0


def step_recipe(
    model: Path, steps: list[Any], values: Mapping[str, Any], data: Optional[dict[str, Any]]
) -> Recipe:
    """A recipe of these steps from the options that all step verbs share."""
    from pocketformer.pipeline.recipe import Recipe

    shared = {name: values[name] for name in ("max_length", "metric", "seed", "threads") if name in values}
    mapping = {"model": model, "data": data, "steps": steps, "targets": values.get("targets"), **shared}
    return Recipe.from_mapping(
        {name: value for name, value in mapping.items() if value is not None}, source="options"
    )


def _render(result: RunResult) -> None:
    if result.report is not None:
        from pocketformer.report.terminal import print_report

        print_report(result.report, stdout_console())
        click.echo(f"Report:  {result.directory / 'report.html'}")
        for target, path in result.bundles.items():
            click.echo(f'Bundle:  {path}   (for {target}; try: pocketformer predict {path} "your text")')
        return
    for kind, place in result.artefacts.to_json(result.directory.resolve()).items():
        click.echo(f"{kind}: {place}")


def _failed_devices(result: RunResult) -> list[dict[str, Any]]:
    devices = result.report.devices if result.report is not None else []
    return [{"name": d.name, "error": d.error, "hint": d.hint} for d in devices if d.status == "failed"]


def _as_json(result: RunResult) -> dict[str, Any]:
    return {
        "directory": str(result.directory),
        "budget_met": result.budget_met,
        "failed_devices": _failed_devices(result),
        "bundles": {name: str(path) for name, path in result.bundles.items()},
        "artefacts": result.artefacts.to_json(result.directory.resolve()),
        "stages": [
            {"name": r["name"], "metrics": r["metrics"], "notes": r["notes"], "seconds": r["seconds"]}
            for r in result.records
        ],
    }


def _render_plan(recipe: Recipe, *, as_json: bool) -> int:
    from pocketformer.pipeline.plan import plan

    planned = plan(recipe)
    if as_json:
        click.echo(json.dumps(planned.to_dict(), ensure_ascii=False))
        return 0
    for line in planned.lines():
        click.echo(line)
    return 0
