"""The stage that searches: smaller and smaller models, then the most promising trained to the end.

The chain of cuts with recovery between is the gradual schedule of Kurtic et al. 2023 (ZipLM, arXiv:2302.04089,
section 4.2): one search leaves a whole family, each member cut out of the one before.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pocketformer.compress.quantize.candidates import candidate_by_name
from pocketformer.pipeline.context import Made, RunContext
from pocketformer.pipeline.deliver_stages import BundleConfig, bundle_stage
from pocketformer.pipeline.search.choosing import FOLDER
from pocketformer.pipeline.search.config import SearchConfig
from pocketformer.pipeline.search.sharing import workshop_for
from pocketformer.pipeline.search.trials import (
    Judgement,
    Rules,
    Trial,
    judged,
    on_front,
    worth_aiming,
    worth_polishing,
)
from pocketformer.runtime.errors import RecipeError

log = logging.getLogger("pocketformer")

# What training to the end may be expected to give back: a share of the drop, and not more than this many points.
_HOPED_SHARE = 0.6
_HOPED_AT_MOST = 0.03
_WORTH_SAYING = 0.0005


def search(config: SearchConfig, context: RunContext, folder: Path) -> Made:
    """Hand on the model of the best trial; the trials stay in ``search/`` below the run directory.

    Interrupted, the same command goes on after the last whole trial; with another budget (and ``--force``) the
    trials that are there are judged anew. A bundle of the best so far is always there. A budget that no trial keeps
    is no error here: the nearest trial is taken and the notes say what is missing.
    """
    if context.need_splits("search").validation.labels is None:
        raise RecipeError(
            "the search judges by validation, which has no rows", hint="Give more rows in --train."
        )
    searcher = _Search(config, context, folder)
    earlier = context.recipe.choices.get("search")
    judgement = searcher.run() if earlier is None else searcher.follow(earlier)
    best = judgement.trial
    shutil.copytree(searcher.workshop.delivered(best), folder / "model")
    notes = [f"{len(searcher.trials)} models made; taken: {describe(best)}"]
    if not judgement.kept:
        notes.append(
            f"none keeps the budget on validation; this one comes nearest: {'; '.join(judgement.missing)}"
        )
    if searcher.out_of_time:
        notes.append("the time limit ended the search before it was through")
    return Made(
        artefacts={"model": "model"},
        metrics={
            f"validation_{context.metric}": best.metric,
            "parameters": float(best.parameters),
            "file_mb": _weights_mb(folder / "model"),
            "trials": float(len(searcher.trials)),
        },
        notes=tuple(notes),
        choices={
            "search": {
                "strokes": int(best.depth),
                "polished": best.polished,
                "vocabulary": best.vocabulary,
                **({} if best.aimed is None else {"aimed": best.aimed}),
            }
        },
        details={
            "trials": [
                {**trial.to_dict(), "on_front": front, "taken": trial.number == best.number}
                for trial, front in zip(searcher.trials, on_front(searcher.trials), strict=True)
            ],
            "candidates": [_candidate(trial, searcher.rules, best) for trial in searcher.trials],
        },
    )


def describe(trial: Trial) -> str:
    """A trial in a line: how fast against the teacher, how large, what it loses on validation."""
    times = ", ".join(f"{factor:.1f}x on {name}" for name, factor in trial.speedup.items())
    loss = f"{trial.drop * 100:+.1f} points" if trial.drop else "no drop"
    if abs(trial.judged_drop - trial.drop) >= _WORTH_SAYING:
        loss += f", judged by all {trial.judged_drop * 100:+.1f}"
    return f"model {trial.name}: {times} over onnxruntime fp32, {trial.file_mb:.1f} MB, drop on validation {loss}"


def _candidate(trial: Trial, rules: Rules, best: Trial) -> dict[str, Any]:
    """A trial as report.json has a candidate."""
    missing = rules.missing(trial)
    if trial.number == best.number:
        reason = (
            f"nearest to the budget: {missing[0]}" if missing else "the best within the budget on validation"
        )
    elif missing:
        reason = missing[0]
    elif trial.speed > best.speed:
        reason = f"{trial.speed / best.speed:.2f} times the time of what was taken"
    else:
        reason = "faster, and less accurate than what was taken"
    return {
        "name": f"model {trial.name}, {trial.candidate}",
        "stage": "search",
        "taken": trial.number == best.number,
        "reason": reason,
        "metric": trial.metric,
        "file_mb": trial.file_mb,
        "latency_ms": dict(trial.latency_ms),
    }


class _Search:
    """One search while it goes on."""

    def __init__(self, config: SearchConfig, context: RunContext, folder: Path) -> None:
        self._config = config
        self._context = context
        self.rules = Rules(context.recipe.budget)
        self._started = time.monotonic()
        self._work = folder / "work"
        self._published = 0
        self._made: list[Trial] = []  # as they were measured
        self.trials: list[Trial] = []
        self.out_of_time = False
        self.workshop = workshop_for(
            config,
            context,
            folder=context.directory.path / FOLDER,
            work=self._work,
        )

    def run(self) -> Judgement:
        """Cut until nothing more is to be hoped for, polish, and judge."""
        for depth in range(1, len(self._config.strokes) + 1):
            if self.trials and (self._is_late() or self._is_hopeless()):
                break
            self._cut(depth)
        aim = worth_aiming(self.trials, self.rules)
        if aim is not None and not self._is_late():
            try:
                self._aim(*aim)
            except RecipeError as error:  # no such model: those that there are can still be chosen among
                self._context.listener.note(f"search: no cut aims at the latency limit: {error}")
        for done in range(self._config.polished):
            trial = worth_polishing(self.trials, self.rules, self._hope)
            if trial is None or self._is_late(polishing=True):
                break
            self.workshop.offer_polish(self.trials, self.rules, self._hope, self._config.polished - done)
            self._polish(trial)
        for trial in self.workshop.begun():
            self._add(trial)
        self._shrink(self.rules.without("max_size_mb").judge(self.trials).trial)
        self.workshop.drop_after(len(self.trials))
        return self.rules.judge(self.trials)

    def follow(self, choice: Mapping[str, Any]) -> Judgement:
        """Make again what an earlier search took, and only what leads to it."""
        for depth in range(1, int(choice["strokes"]) + 1):
            self._cut(depth)
        if choice.get("aimed") is not None:
            self._aim(self.trials[-1] if self.trials else None, float(choice["aimed"]))
        if choice["polished"]:
            self._polish(self.trials[-1])
        share = float(choice.get("vocabulary", self._config.vocabularies[0]))
        if share != self._config.vocabularies[0]:
            self._add(self.workshop.with_vocabulary(len(self.trials) + 1, self.trials[-1], share))
        trial = self.trials[-1]
        missing = self.rules.missing(trial)
        return Judgement(trial=trial, kept=not missing, missing=missing)

    def _cut(self, depth: int) -> None:
        self._say(f"cutting, {depth} of at most {len(self._config.strokes)}")
        previous = self.trials[-1] if self.trials else None
        key = "" if previous is None else previous.key
        self._add(self.workshop.stroke(len(self.trials) + 1, depth, self.workshop.source(previous), key))

    def _aim(self, trial: Trial | None, share: float) -> None:
        what = "the model" if trial is None else f"model {trial.name}"
        self._say(f"cutting {what} to {share:.0%} of its time, for the latency limit")
        self._add(self.workshop.aimed(len(self.trials) + 1, trial, self.workshop.source(trial), share))

    def _polish(self, trial: Trial) -> None:
        self._say(f"training model {trial.name} to the end")
        self._add(self.workshop.polish(len(self.trials) + 1, trial))

    def _shrink(self, best: Trial) -> None:
        """Deliver the best with less and less of its vocabulary until it is small enough."""
        limit = self.rules.budget.max_size_mb
        for share in self._config.vocabularies[1:]:
            if limit is None or self.trials[-1].file_mb <= limit or best.file_mb <= limit:
                return
            self._say(f"model {best.name} with {share:.0%} of its vocabulary")
            self._add(self.workshop.with_vocabulary(len(self.trials) + 1, best, share))

    def _add(self, trial: Trial) -> None:
        self._made.append(trial)
        self.trials = judged(self._made)
        best = self.rules.judge(self.trials).trial
        if best.number != self._published:
            self._publish(best)
        self._context.listener.trials(self.trials, best)
        log.info("%s", describe(self.trials[-1]))

    def _publish(self, trial: Trial) -> None:
        """Put a bundle of the best so far where the run's own will be: whoever stops the search has something."""
        context = self._context
        made = {
            "name": "quantize",
            "key": trial.key,
            "details": {"precision": candidate_by_name(trial.candidate).precision},
        }
        artefacts = replace(
            context.artefacts,
            teacher=self.workshop.teacher,
            model=self.workshop.delivered(trial),
            quantized=self.workshop.graph(trial),
        )
        folder = self._work / "bundle"
        shutil.rmtree(folder, ignore_errors=True)  # of the best before it
        with self.workshop.at_work():
            bundle_stage(
                BundleConfig(),
                replace(context, artefacts=artefacts, records=[*context.records, made]),
                folder,
            )
        self._published = trial.number

    def _hope(self, trial: Trial) -> float:
        return min(_HOPED_AT_MOST, _HOPED_SHARE * max(0.0, trial.judged_drop))

    def _is_hopeless(self) -> bool:
        """Whether what was cut last is so far over the drop that what is cut next cannot come back."""
        limit = self.rules.budget.max_drop
        last = self.trials[-1]
        return limit is not None and last.judged_drop - self._hope(last) > limit + _HOPED_AT_MOST

    def _is_late(self, *, polishing: bool = False) -> bool:
        """Whether one more trial would end after the time limit, as long as the slowest so far took."""
        limit = self._config.time_limit_s
        if limit is None:
            return False
        ratio = self._config.polish.training.epochs / self._config.recovery.training.epochs
        slowest = max(trial.seconds for trial in self.trials if not trial.polished)
        expected = slowest * (max(1.0, ratio) if polishing else 1.0)
        if time.monotonic() - self._started + expected > limit:
            self.out_of_time = True
        return self.out_of_time

    def _say(self, text: str) -> None:
        spent = (time.monotonic() - self._started) / 60
        limit = self._config.time_limit_s
        of = f" of at most {limit / 60:.0f}" if limit is not None else ""
        self._context.listener.note(f"search: {text} ({spent:.1f}{of} minutes spent)")


def _weights_mb(model: Path) -> float:
    return sum(p.stat().st_size for p in model.glob("*.safetensors")) / 1e6
