"""Which execution provider really ran which operators, as onnxruntime's own profile of a run tells it.

A provider that is asked for is not yet one that computes: onnxruntime hands every operator that a provider lacks
to the CPU. Its profiler writes one event for each kernel that ran, with the provider that ran it
(onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html).
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from pocketformer.runtime.errors import VerificationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pocketformer.runtime.manifest import SessionSettings

_KERNEL = "_kernel_time"
# onnxruntime puts these between providers; the graph has none of them.
_COPIES = ("MemcpyFromHost", "MemcpyToHost")


@dataclass(frozen=True)
class Placement:
    """How many nodes of each operator each provider ran: ``operators[provider][operator]``.

    The nodes are those of the graph as onnxruntime optimized it. A provider that compiles part of a graph (TensorRT)
    counts as one node for each part. Copies between devices are counted apart, in ``copies``.
    """

    operators: Mapping[str, Mapping[str, int]]
    copies: int = 0

    @property
    def nodes(self) -> dict[str, int]:
        """The number of nodes by provider, the busiest first."""
        counts = {provider: sum(found.values()) for provider, found in self.operators.items()}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def fallback(self, providers: Sequence[str]) -> dict[str, int]:
        """The operators that ran elsewhere than on ``providers``, and how many nodes of each; empty when none did."""
        found: Counter[str] = Counter()
        for provider, operators in self.operators.items():
            if provider not in providers:
                found.update(operators)
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``nodes``, ``operators``, ``copies``."""
        operators = {provider: dict(found) for provider, found in self.operators.items()}
        return {"nodes": self.nodes, "operators": operators, "copies": self.copies}


def measure_placement(
    model_path: Union[str, Path],
    settings: SessionSettings,
    feeds: Mapping[str, NDArray[Any]],
    *,
    provider_options: Optional[Mapping[str, Mapping[str, str]]] = None,
) -> Placement:
    """Run the graph once on ``feeds`` in a profiled session of its own, so that no measured session is slowed.

    Raises as ``OnnxRuntimeEngine`` and its ``run`` do.
    """
    from pocketformer.runtime.engine import OnnxRuntimeEngine

    with tempfile.TemporaryDirectory(prefix="pocketformer-profile-") as folder:
        engine = OnnxRuntimeEngine(
            model_path,
            settings,
            provider_options=provider_options,
            profile_prefix=str(Path(folder) / "run"),
        )
        try:
            engine.run(feeds)
        finally:
            profile = Path(engine.session.end_profiling())  # or the session would write it when it is deleted
        return parse_profile(profile.read_text(encoding="utf-8", errors="replace"))


def parse_profile(text: str) -> Placement:
    """The placement that a profile tells; a node that ran several times counts once.

    Raises ``VerificationError`` when this is no profile or no kernel ran in it.
    """
    try:
        events = json.loads(text)
        # A node without a name is known by its index; old releases give some nodes neither.
        nodes = {
            (
                event["args"]["provider"],
                event["args"]["op_name"],
                event["name"],
                event["args"].get("node_index"),
            )
            for event in events
            if event.get("cat") == "Node" and str(event.get("name", "")).endswith(_KERNEL)
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise VerificationError(
            f"this is no profile of onnxruntime: {type(error).__name__}: {error}",
            hint="Try another release of onnxruntime.",
        ) from error
    operators: dict[str, Counter[str]] = {}
    copies = 0
    for provider, operator, _, _ in nodes:
        if operator in _COPIES:
            copies += 1
        else:
            operators.setdefault(str(provider), Counter())[str(operator)] += 1
    if not operators:
        raise VerificationError(
            "the profile holds no kernel, so nothing tells where the graph ran",
            hint="Try another release of onnxruntime.",
        )
    return Placement({name: dict(sorted(operators[name].items())) for name in sorted(operators)}, copies)
