"""What the agent answers: its lines as events, and its refusals as the errors of this package."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pocketformer.runtime.errors import DeviceError, InputError, PocketformerError, VerificationError
from pocketformer.runtime.tensorrt.parser import Complaint, RejectedGraphError
from pocketformer.targets.ssh import scrub

Event = Mapping[str, Any]


def read_events(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    """The events among the lines; what a shell prints before them is passed over."""
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            yield event


def refused(event: Event, rejected: Sequence[Event] = ()) -> PocketformerError:
    """The error that the agent told of; ``rejected`` are its events of that name."""
    message = scrub(str(event.get("message") or "no reason given"))
    hint = scrub(str(event["hint"])) if event.get("hint") else None
    if event.get("kind") == "rejected-graph":
        complaints = [_complaint(item) for item in rejected]
        return RejectedGraphError(f"on the device: {message}", complaints, hint=hint)
    kinds: dict[Any, type[PocketformerError]] = {2: InputError, 4: DeviceError, 5: VerificationError}
    return kinds.get(event.get("exit_code"), PocketformerError)(f"on the device: {message}", hint=hint)


def _complaint(event: Event) -> Complaint:
    index = event.get("index")
    words = [scrub(str(event.get(key) or "")) for key in ("node", "operator", "reason")]
    return Complaint(index if isinstance(index, int) else -1, *words)
