"""Making one trial: cut, recover, deliver as it would ship, measure. What is whole on disk is not made again."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.pipeline.artefacts import Artefacts
from pocketformer.pipeline.context import RunContext
from pocketformer.pipeline.recipe import digest, plain
from pocketformer.pipeline.rundir import disk_errors
from pocketformer.pipeline.search.config import SearchConfig
from pocketformer.pipeline.search.trials import Rules, Trial
from pocketformer.runtime.errors import RecipeError, RunDirectoryError
from pocketformer.runtime.manifest import sha256_directory

if TYPE_CHECKING:
    from pocketformer.compress.distill import DistillConfig
    from pocketformer.compress.prune.config import PruneConfig
    from pocketformer.compress.prune.costs import BlockCosts

log = logging.getLogger("pocketformer")

_RECORD = "trial.json"
_VERSION = 3  # of what a trial computes: part of its key


class Workshop:
    """Makes the trials of one run, a folder each in ``folder``, which outlives the run.

    ``work`` is a scratch folder.
    """

    def __init__(self, config: SearchConfig, context: RunContext, *, folder: Path, work: Path) -> None:
        self._config = config
        self._context = context
        self._folder = folder
        self._work = work
        self._teacher_logits: Any = None  # of the first trial's validation; the same for all
        self.teacher = context.artefacts.teacher or context.artefacts.need("model", verb="search")

    def stroke(self, number: int, depth: int, source: Path, previous_key: str) -> Trial:
        """Cut stroke number ``depth`` (from 1) out of the model in ``source``, recover it, and measure."""
        cut = self._config.strokes[depth - 1]
        return self._trial(number, depth, source, previous_key, cut=cut, training=self._config.recovery)

    def aimed(self, number: int, trial: Trial | None, source: Path, share: float) -> Trial:
        """Cut a trial's model (None: the one that the search began with) to ``share`` of its time, recover, measure.

        The budget's workload says which time, and the latency table of this machine what each block takes of it.
        """
        from pocketformer.compress.models import load_classifier, structure_of
        from pocketformer.compress.prune.config import PruneConfig
        from pocketformer.pipeline.search.aiming import costs_on

        depth = 0.0 if trial is None else trial.depth
        rank = self._config.strokes[0].embedding_rank if trial is None else 1.0
        costs = costs_on(
            self._context.recipe.budget.latency_workload,
            len(structure_of(load_classifier(source)).layers),
            teacher=self.teacher,
            candidate=self._config.candidates[0],
            context=self._context,
        )
        return self._trial(
            number,
            depth + 0.5,
            source,
            "" if trial is None else trial.key,
            cut=PruneConfig(allocation="latency", cost=share, embedding_rank=rank),
            training=self._config.recovery,
            costs=costs,
            aimed=share,
        )

    def polish(self, number: int, trial: Trial) -> Trial:
        """Train the model of a trial to the end and measure it again."""
        source = self.recovered(trial)
        return self._trial(
            number, trial.depth, source, trial.key, cut=None, training=self._config.polish, aimed=trial.aimed
        )

    def with_vocabulary(self, number: int, trial: Trial, share: float) -> Trial:
        """Deliver the model of a trial with another share of its vocabulary, and measure it again."""
        key = digest([trial.key, share])

        def make(folder: Path) -> Trial:
            delivered = self._delivered(self.recovered(trial), share, folder)
            figures = self._measured(delivered, folder / "work")
            name = f"{trial.name}, {share:.0%} of the vocabulary"
            return replace(trial, number=number, name=name, key=key, vocabulary=share, **figures)

        return self._whole(number, key, make)

    def source(self, trial: Trial | None) -> Path:
        """The model that is cut next: of a trial, or the one that the search began with."""
        if trial is None:
            return self._context.artefacts.need("model", verb="search")
        return self.recovered(trial)

    def recovered(self, trial: Trial) -> Path:
        """A trial's model with its whole vocabulary, from which one goes on."""
        return self._place(trial.number) / "recovered"

    def delivered(self, trial: Trial) -> Path:
        """A trial's model as it would ship, before quantization."""
        return self._place(trial.number) / "model"

    def graph(self, trial: Trial) -> Path:
        """A trial's quantized graph."""
        return self._place(trial.number) / "model.onnx"

    def offer_polish(
        self, trials: Sequence[Trial], rules: Rules, hope: Callable[[Trial], float], at_most: int
    ) -> None:
        """Say what may be wanted next: alone, nothing is made before it is wanted."""

    def begun(self) -> Iterable[Trial]:
        """What was offered and begun, and nobody asked for: alone, nothing."""
        return ()

    def at_work(self) -> AbstractContextManager[None]:
        """Held by what computes beside the making of trials."""
        return contextlib.nullcontext()

    def drop_after(self, number: int) -> None:
        """Delete the trials of an earlier run numbered above ``number``."""
        for path in self._folder.glob("*"):
            if path.name.startswith(".") or (path.name.isdigit() and int(path.name) > number):
                shutil.rmtree(path, ignore_errors=True)

    @cached_property
    def base_key(self) -> str:
        """What all trials depend on: model, teacher, data, seed, lengths, versions. The budget is no part of it."""
        from pocketformer.pipeline.run import versions

        splits = self._context.need_splits("search")
        recipe = self._context.recipe
        texts = [[s.texts, s.labels] for s in (splits.train, splits.validation)]
        return digest(
            [
                _VERSION,
                sha256_directory(self._context.artefacts.need("model", verb="search")),
                sha256_directory(self.teacher),
                digest([texts, splits.unlabeled]),
                [recipe.seed, recipe.max_length, self._context.metric, self._context.threads],
                [self._config.vocabularies[0], self._config.candidates, self._config.rounds],
                versions(),
            ]
        )

    def _place(self, number: int) -> Path:
        return self._folder / f"{number:02d}"

    def _trial(
        self,
        number: int,
        depth: float,
        source: Path,
        previous_key: str,
        *,
        cut: PruneConfig | None,
        training: DistillConfig,
        costs: BlockCosts | None = None,
        aimed: float | None = None,
    ) -> Trial:
        # Another table of the same machine cuts elsewhere.
        known = (
            []
            if costs is None
            else [costs.source, *map(sorted, (costs.attention.items(), costs.ffn.items()))]
        )
        key = digest([previous_key or self.base_key, plain(cut), plain(training), *known])
        share = self._config.vocabularies[0]

        def make(folder: Path) -> Trial:
            model = source if cut is None else self._cut(source, cut, folder / "cut", costs)
            recovered = self._distilled(model, training, folder)
            delivered = self._delivered(recovered, share, folder)
            return Trial(
                number=number,
                name=f"{depth:g}{' polished' if cut is None else ''}",
                depth=depth,
                aimed=aimed,
                polished=cut is None,
                vocabulary=share,
                key=key,
                **self._measured(delivered, folder / "work"),
            )

        return self._whole(number, key, make)

    def _whole(self, number: int, key: str, make: Callable[[Path], Trial]) -> Trial:
        """The trial of this number and key from the disk, or made and put there."""
        found = self._finished(number, key)
        if found is not None:
            return found
        started = time.perf_counter()
        with self._writing(number, key) as folder:
            made = make(folder)
            trial = replace(made, seconds=round(time.perf_counter() - started, 1))
            (folder / _RECORD).write_text(json.dumps(trial.to_dict(), indent=2), encoding="utf-8")
        return trial

    def read(self, number: int) -> Trial:
        """The trial of this number as it is on disk; ``RunDirectoryError`` when it is not there whole."""
        place = self._place(number)
        try:
            return Trial.from_dict(json.loads((place / _RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunDirectoryError(f"{place} does not hold a whole trial: {error}") from error

    def _finished(self, number: int, key: str) -> Trial | None:
        try:
            trial = self.read(number)
        except RunDirectoryError:
            return None
        return trial if trial.key == key else None

    @contextlib.contextmanager
    def _writing(self, number: int, key: str) -> Iterator[Path]:
        """A temporary folder that becomes the trial's when the block ends without an error.

        Another worker may have been at the same trial, when this one was thought dead; the first to end has made it.
        """
        final = self._place(number)
        temporary = final.with_name(f".{final.name}.{socket.gethostname()}-{os.getpid()}.tmp")
        with disk_errors(self._folder):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            try:
                yield temporary
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            for scratch in ("work", "cut"):
                shutil.rmtree(temporary / scratch, ignore_errors=True)
            if self._finished(number, key) is not None:
                shutil.rmtree(temporary, ignore_errors=True)
                return
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)

    def _cut(self, source: Path, cut: PruneConfig, output: Path, costs: BlockCosts | None) -> Path:
        from pocketformer.compress.prune.step import prune

        return prune(source, cut, replace(self._step(output), costs=costs)).output

    def _distilled(self, source: Path, training: DistillConfig, folder: Path) -> Path:
        from pocketformer.compress.distill import distill

        return distill(source, training, self._step(folder / "recovered")).output

    def _delivered(self, source: Path, share: float, folder: Path) -> Path:
        from pocketformer.compress.prune.config import VocabularyConfig
        from pocketformer.compress.prune.step import prune_vocabulary_step

        config = VocabularyConfig(size=share, replacement="nearest")
        return prune_vocabulary_step(source, config, self._step(folder / "model")).output

    def _step(self, output: Path) -> Any:
        step = self._context.step_context(output.parent, verb="search")
        return replace(step, output=output, work=output.parent / "work", teacher=self.teacher)

    def _measured(self, model_dir: Path, work: Path) -> dict[str, Any]:
        """Export, quantize by each of the few candidates, and take the figures of the best."""
        from pocketformer.compress.models import load_classifier, structure_of
        from pocketformer.pipeline.graph_stages import QuantizeConfig, default_exporter, export_plain
        from pocketformer.pipeline.portfolio import Portfolio

        model = load_classifier(model_dir)
        work.mkdir(parents=True, exist_ok=True)
        graph, _ = export_plain(
            model, model_dir, work / "model.onnx", exporter=default_exporter(), context=self._context
        )
        artefacts = Artefacts(teacher=self.teacher, model=model_dir, graph=graph)
        context = replace(self._context, artefacts=artefacts)
        config = QuantizeConfig(
            candidates=self._config.candidates, rounds=self._config.rounds, fallback=False
        )
        portfolio = Portfolio(
            config, context, graph, work / "candidates", teacher_logits=self._teacher_logits
        )
        self._teacher_logits = portfolio.teacher_logits
        chosen = portfolio.choice.choose(portfolio.measure_all())
        best, teacher = portfolio.time_against(chosen, self._teacher_graph)
        if best.path is not None:
            shutil.copyfile(best.path, model_dir.with_name("model.onnx"))
        if best.metric is None or best.divergence is None or portfolio.teacher_metric is None:
            raise RecipeError("the search judges by validation, which has no rows", hint="Give more data.")
        return {
            "layers": tuple((layer.heads, layer.ffn) for layer in structure_of(model).layers),
            "metric": best.metric,
            "drop": portfolio.teacher_metric - best.metric,
            "divergence": best.divergence,
            "latency_ms": dict(best.latency_ms),
            "speedup": {name: teacher.latency_ms[name] / ms for name, ms in best.latency_ms.items()},
            "file_mb": best.file_mb + portfolio.choice.tokenizer_mb,
            "parameters": sum(p.numel() for p in model.parameters()),
            "candidate": best.name,
        }

    @cached_property
    def _teacher_graph(self) -> Path:
        """The teacher as fp32 ONNX, beside which every trial is timed."""
        from pocketformer.compress.models import load_classifier
        from pocketformer.pipeline.graph_stages import default_exporter, export_plain

        self._work.mkdir(parents=True, exist_ok=True)
        path = self._work / "teacher.onnx"
        model = load_classifier(self.teacher)
        return export_plain(model, self.teacher, path, exporter=default_exporter(), context=self._context)[0]
