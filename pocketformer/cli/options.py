"""Options that several verbs share, and the values they take."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Optional, TypeVar

import click

from pocketformer.cli.noise import Noise

Command = TypeVar("Command", bound=Callable[..., Any])


class Fraction(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A share, written ``1%`` or ``0.01``."""

    name = "fraction"

    def convert(
        self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]
    ) -> Optional[float]:
        """The share as a fraction of 1."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            self.fail(f"{value!r} is not a share; write 1% or 0.01", param, ctx)
        if not 0 <= number <= 1:
            self.fail(f"{value!r} is not between 0% and 100% (1% is 0.01)", param, ctx)
        return number


class Drop(Fraction):
    """A share, or ``none`` for no limit."""

    name = "fraction|none"

    def convert(
        self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]
    ) -> Optional[float]:
        """The share as a fraction of 1; None: no limit."""
        return None if str(value).strip().lower() == "none" else super().convert(value, param, ctx)


class Latency(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Milliseconds and the workload that they speak of: ``0.8``, ``12@1x128``."""

    name = "ms[@workload]"

    def convert(
        self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]
    ) -> tuple[float, str]:
        """Milliseconds and the workload's name."""
        if isinstance(value, tuple):
            return value
        amount, _, workload = str(value).strip().partition("@")
        try:
            milliseconds = float(amount.removesuffix("ms"))
        except ValueError:
            self.fail(f"{value!r} is not a time; write 0.8 or 12@1x128 (milliseconds)", param, ctx)
        if not 0 < milliseconds < float("inf"):
            self.fail(f"{value!r} is not above 0 milliseconds", param, ctx)
        from pocketformer.targets.workloads import WORKLOADS

        names = [known.name for known in WORKLOADS]
        if workload and workload not in names:
            self.fail(f"there is no workload {workload!r}; choose {', '.join(names)}", param, ctx)
        return milliseconds, workload or "real"


class Duration(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A time to work: ``90`` (seconds), ``20m``, ``1.5h``."""

    name = "duration"

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> float:
        """Seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        text = str(value).strip().lower()
        factor = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:], 0.0)
        try:
            seconds = float(text[:-1]) * factor if factor else float(text)
        except ValueError:
            self.fail(f"{value!r} is not a duration; write 90s, 20m or 1.5h", param, ctx)
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r} is not above 0 seconds", param, ctx)
        return seconds


class Count(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """How many to keep: a whole number, or a share such as ``50%``."""

    name = "count"

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> Any:
        """An int, or a float as a fraction of 1."""
        if isinstance(value, (int, float)):
            return value
        text = str(value).strip()
        try:
            if text.endswith("%"):
                return float(text[:-1]) / 100
            return int(text) if text.isdigit() else float(text)
        except ValueError:
            self.fail(f"{value!r} is not a number or a share; write 6 or 50%", param, ctx)


class Cost(Fraction):
    """A share, or ``budget`` for the smallest that keeps the run's drop."""

    name = "fraction|budget"

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> Any:
        """The share as a fraction of 1, or "budget"."""
        return "budget" if str(value).strip().lower() == "budget" else super().convert(value, param, ctx)


class Sparsity(Fraction):
    """A share, or ``2:4`` for two of every four."""

    name = "fraction|2:4"

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> Any:
        """The share as a fraction of 1, or "2:4"."""
        return "2:4" if str(value).strip() == "2:4" else super().convert(value, param, ctx)


PATH = click.Path(path_type=Path)


def data_options(required: bool) -> Callable[[Command], Command]:
    """``--train`` and its companions."""

    def decorate(function: Command) -> Command:
        for option in reversed(
            (
                click.option(
                    "--train", type=PATH, required=required, help="CSV, TSV, JSONL or Parquet to learn from."
                ),
                click.option("--test", type=PATH, help="Held-out file; read once, at the end."),
                click.option("--validation", type=PATH, help="Default: a tenth of --train."),
                click.option(
                    "--unlabeled", type=PATH, help="More texts like these, to distil on; needs no labels."
                ),
                click.option(
                    "--text-column", default="text", show_default=True, help="Its name in the files."
                ),
                click.option("--label-column", default="label", show_default=True, help="'none': no labels."),
                click.option(
                    "--max-length",
                    type=click.IntRange(min=4),
                    default=128,
                    show_default=True,
                    help="Tokens kept of a text.",
                ),
                click.option(
                    "--metric", help="accuracy, f1 (two labels), f1_macro or matthews. Default: accuracy."
                ),
            )
        ):
            function = option(function)
        return function

    return decorate


def budget_options(*, max_drop: Optional[str]) -> Callable[[Command], Command]:
    """The limits of a budget; ``max_drop`` is the default of the first."""

    def decorate(function: Command) -> Command:
        for option in reversed(
            (
                click.option(
                    "--max-drop",
                    type=Drop(),
                    default=max_drop,
                    show_default=max_drop is not None,
                    help="What accuracy may fall by; or 'none'.",
                ),
                click.option(
                    "--max-latency",
                    type=Latency(),
                    help="p50 of one text, or of a workload: 0.8, 12@1x128, 60@8x128.",
                ),
                click.option(
                    "--max-size",
                    type=click.FloatRange(min=0, min_open=True),
                    help="Model files, in MB (10^6 bytes).",
                ),
                click.option(
                    "--max-memory",
                    type=click.FloatRange(min=0, min_open=True),
                    help="Peak of a fresh process, in MB.",
                ),
            )
        ):
            function = option(function)
        return function

    return decorate


def budget_section(values: dict[str, Any]) -> dict[str, Any]:
    """The budget of a recipe from the budget options, taken out of ``values``; what is not given has no limit."""
    drop, latency = values.pop("max_drop"), values.pop("max_latency")
    budget = {"max_size_mb": values.pop("max_size"), "max_memory_mb": values.pop("max_memory")}
    if latency is not None:
        budget["max_latency_ms"], budget["latency_workload"] = latency
    return {name: value for name, value in budget.items() if value is not None} | {"max_drop": drop}


def run_options(function: Command) -> Command:
    """Where to write and how to work."""
    output = click.option("-o", "--output", type=PATH, required=True, help="Run directory to write.")
    return output(work_options(function))


def work_options(function: Command) -> Command:
    """How to work, for verbs that know themselves where to write."""
    for option in reversed(
        (
            click.option(
                "--force", is_flag=True, help="Replace another run there; files that no run made stay."
            ),
            click.option(
                "--seed",
                type=click.IntRange(min=0),
                default=0,
                show_default=True,
                help="Of all that is random.",
            ),
            click.option("--threads", type=click.IntRange(min=1), help="Default: all cores available."),
            json_option,
            verbose_option,
        )
    ):
        function = option(function)
    return function


def _show_all(ctx: click.Context, _: click.Parameter, verbose: bool) -> None:
    noise = ctx.find_object(Noise)
    if verbose and noise is not None:
        noise.show()


verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_all,
    help="Log to stderr; show tracebacks.",
)
store_option = click.option(
    "--store",
    metavar="FILE|URL",
    help="Share the search with all that run the same command: a database for Optuna.",
)
key_option = click.option(
    "--key",
    type=PATH,
    metavar="PUBLIC.pem",
    help="The signer's Ed25519 public key: refuse the bundle unless it was signed with it.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def data_section(values: dict[str, Any]) -> Optional[dict[str, Any]]:
    """The data section of a recipe from the data options, taken out of ``values``; None without ``--train``."""
    section = {
        name: values.pop(name)
        for name in ("train", "test", "validation", "unlabeled", "text_column", "label_column")
    }
    if section["label_column"] == "none":
        section["label_column"] = None
    if section["train"] is None:
        if any(section[name] is not None for name in ("test", "validation", "unlabeled")):
            raise click.UsageError("--test, --validation and --unlabeled need --train.")
        return None
    return {name: value for name, value in section.items() if value is not None or name == "label_column"}


def device_options(function: Command) -> Command:
    """How devices over SSH are reached; the names are those of ``FleetDevice``."""
    for option in reversed(
        (
            click.option("--python", metavar="PATH", help="Python on devices over SSH.  [default: python3]"),
            click.option("--identity", type=PATH, help="Private key for them; passwords are never used."),
            click.option("--known-hosts", type=PATH, help="File with their host keys."),
            click.option("--folder", help="Where to work on them. Default: their TMPDIR or /tmp."),
            click.option("--wheels", type=PATH, help="Folder of wheels here, for packages that they lack."),
        )
    ):
        function = option(function)
    return function


def reached(values: dict[str, Any]) -> dict[str, Any]:
    """The given ones of ``device_options``, taken out of ``values``, with paths that hold elsewhere too."""
    given = {name: values.pop(name) for name in ("python", "identity", "known_hosts", "folder", "wheels")}
    return {
        name: value.absolute() if isinstance(value, Path) else value for name, value in given.items() if value
    }
