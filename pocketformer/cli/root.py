"""The root command. A verb's module is imported when the verb is used, so that ``--help`` answers at once."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import Optional

import click

from pocketformer import __version__


@dataclass(frozen=True)
class Verb:
    """A verb, the module whose ``command`` it is, its line in ``--help`` and the group it is listed under."""

    name: str
    module: str
    summary: str
    group: str


VERBS: tuple[Verb, ...] = (
    Verb("demo", "demo", "Compress a real model on real questions, and show the report.", "Start"),
    Verb("init", "init", "Write a commented recipe.", "Start"),
    Verb("inspect", "inspect", "What a model is made of and what can be done with it.", "Start"),
    Verb("doctor", "doctor", "What is installed, what is missing, and for which verb.", "Start"),
    Verb(
        "compress",
        "compress",
        "Model, data and budget in; smaller model, proof and bundle out.",
        "Whole runs",
    ),
    Verb("choose", "choose", "The best model for another budget, from those of a search.", "Whole runs"),
    Verb("run", "run", "Carry out a recipe.", "Whole runs"),
    Verb("finetune", "finetune", "Train a head and the model on your labels.", "Single steps"),
    Verb("distill", "distill", "Let a smaller student imitate the model.", "Single steps"),
    Verb("prune", "prune", "Remove layers, heads, neurons and vocabulary.", "Single steps"),
    Verb("export", "export", "Write the model as ONNX and check it against torch.", "Single steps"),
    Verb("quantize", "quantize", "Make int8 candidates and take the measured best.", "Single steps"),
    Verb("bundle", "bundle", "Pack what an app embeds.", "Single steps"),
    Verb("bench", "bench", "Measure accuracy and latency of a bundle against its teacher.", "Single steps"),
    Verb("report", "report", "Show or render the report of a run.", "Results"),
    Verb("compare", "compare", "Set two reports side by side.", "Results"),
    Verb("predict", "predict", "Ask a bundle.", "Results"),
    Verb("serve", "serve", "Answer over HTTP.", "Results"),
    Verb("verify", "verify", "Check a bundle's files and answers.", "Results"),
    Verb("targets", "targets", "List, show and probe devices.", "Devices and folders"),
    Verb("clean", "clean", "Delete what a run made, and nothing else.", "Devices and folders"),
)


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order in which a newcomer meets them."""
        return [verb.name for verb in VERBS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        """Import the verb's module and take its ``command``."""
        verb = next((v for v in VERBS if v.name == cmd_name), None)
        if verb is None:
            return None
        command: click.Command = importlib.import_module(f"pocketformer.cli.{verb.module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[Optional[str], Optional[click.Command], list[str]]:
        """Suggest the nearest verb when there is no such one."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else " See `pocketformer --help`."
            raise click.UsageError(f"no such verb: {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs in their groups, without importing them."""
        for group in dict.fromkeys(verb.group for verb in VERBS):
            with formatter.section(group):
                formatter.write_dl([(v.name, v.summary) for v in VERBS if v.group == group], col_max=12)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 internal error or no space, 2 bad input, 3 budget not met (best saved), "
    "4 something missing, 5 damaged artefact, 130 interrupted, 143 terminated.",
)
@click.version_option(__version__, prog_name="pocketformer")
def root() -> None:
    """Make a trained Transformer small and fast for the devices people own, and prove it.

    \b
    pocketformer demo -o out/demo
    pocketformer compress MODEL --train train.csv --test test.csv --max-drop 1% -o out/
    pocketformer predict out/bundles/cpu "What is the capital of France ?"
    """
