"""The engine that runs a bundle's graph: onnxruntime, OpenVINO, LiteRT, or TensorRT for what is built already."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Protocol, Union

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pocketformer.runtime.errors import InputError, VerificationError
from pocketformer.runtime.manifest import CPU_PROVIDER, LITERT, OPENVINO, EngineNeed, SessionSettings

FloatArray = NDArray[np.float32]

_OPTIMIZATION = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
DEFAULT_NEED = EngineNeed()
_ERRORS_ONLY = 3  # onnxruntime's log_severity_level: its warnings go to stderr of the host program


class Engine(Protocol):
    """What predicts: any engine that a bundle may ask for."""

    input_names: tuple[str, ...]
    output_shape: tuple[Any, ...]
    providers: tuple[str, ...]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> FloatArray:
        """Logits [batch, labels]."""


class OnnxRuntimeEngine:
    """One onnxruntime session over ``model_path``; ``run`` may be called from several threads at once.

    ``input_names`` are the graph's own inputs in its order, ``providers`` those that were asked for: beyond the
    CPU's, nothing falls back in silence (``providers.create_session``), and ``placement`` tells what ran where.
    ``provider_options`` are onnxruntime's own, by provider; with ``profile_prefix`` the session writes a profile.
    ``content`` is what the file at ``model_path`` holds, where it was read already.
    Raises ``VerificationError`` when onnxruntime cannot load the graph, ``DeviceError`` when a provider is missing.
    """

    def __init__(
        self,
        model_path: Union[str, Path],
        settings: Optional[SessionSettings] = None,
        *,
        provider_options: Optional[Mapping[str, Mapping[str, str]]] = None,
        profile_prefix: Optional[str] = None,
        content: Optional[bytes] = None,
    ) -> None:
        self.settings = SessionSettings() if settings is None else settings
        path = str(model_path)
        options = session_options(self.settings)
        if profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = profile_prefix
        if self.settings.providers == (CPU_PROVIDER,):
            session = _cpu_session(path, content, options)
        else:
            from pocketformer.runtime.providers import create_session

            session = create_session(
                path, options, self.settings.providers, provider_options, content=content
            )
        self.model_path = path
        self.input_names: tuple[str, ...] = tuple(item.name for item in session.get_inputs())
        output = session.get_outputs()[0]
        self.output_name: str = output.name
        self.output_shape: tuple[Any, ...] = tuple(output.shape)
        self.providers: tuple[str, ...] = self.settings.providers
        self.session = session
        self._outputs = [self.output_name]
        self._run = session.run

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> FloatArray:
        """The graph's first output, usually logits [batch, labels]; feeds that the graph lacks are left out.

        Raises ``InputError`` when a feed is missing, ``VerificationError`` when the graph fails on these
        feeds, for example on a sequence longer than its position embeddings.
        """
        try:
            output: FloatArray = self._run(self._outputs, {name: feeds[name] for name in self.input_names})[0]
        except KeyError as error:
            raise missing_feed(error, feeds, self.input_names) from error
        except Exception as error:
            shapes = ", ".join(f"{name} {list(value.shape)} {value.dtype}" for name, value in feeds.items())
            raise VerificationError(
                f"{self.model_path} failed on {shapes}: {error}",
                hint="Check shapes and types, and the bundle itself with `pocketformer verify`.",
            ) from error
        return output


def open_engine(
    graph: Path,
    settings: SessionSettings,
    need: EngineNeed = DEFAULT_NEED,
    content: Optional[Sequence[bytes]] = None,
) -> Engine:
    """The engine for a bundle's graph: TensorRT for a built ``.engine``, else the one that it was made for.

    ``content`` is what the files of the graph hold (``graph_files``), where they were read already; an engine of
    TensorRT has to be a file. Raises as ``OnnxRuntimeEngine``, ``OpenvinoEngine``, ``LitertEngine`` and
    ``TensorrtEngine`` do.
    """
    if graph.suffix == ".engine":
        if content is not None:
            raise InputError(
                f"{graph} is read from its file alone, not out of an archive",
                hint="Unpack the archive (unzip).",
            )
        from pocketformer.runtime.backends.tensorrt import TensorrtEngine

        return TensorrtEngine(graph)
    if need.name == OPENVINO:
        from pocketformer.runtime.backends.openvino import OpenvinoEngine

        return OpenvinoEngine(graph, settings, minimum_version=need.minimum_version, content=content)
    one = None if content is None else content[0]
    if need.name == LITERT:
        from pocketformer.runtime.backends.litert import LitertEngine

        return LitertEngine(graph, settings, minimum_version=need.minimum_version, content=one)
    return OnnxRuntimeEngine(graph, settings, content=one)


def _cpu_session(path: str, content: Optional[bytes], options: Any) -> Any:
    try:
        return ort.InferenceSession(
            path if content is None else content,
            sess_options=options,
            providers=[CPU_PROVIDER],
            enable_fallback=0,  # it prints to stdout, and there is nothing to fall back to
        )
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise VerificationError(
            f"onnxruntime {ort.__version__} cannot load {path}: {error}",
            hint="Copy the bundle again, or install the onnxruntime that its manifest names, or newer.",
        ) from error


def session_options(settings: SessionSettings) -> Any:
    """``onnxruntime.SessionOptions`` for ``settings``: one graph at a time, warnings silenced.

    Raises ``InputError`` for a graph optimization that onnxruntime does not have.
    """
    if settings.graph_optimization not in _OPTIMIZATION:
        raise InputError(
            f"graph_optimization is {settings.graph_optimization!r}",
            hint=f"Use one of {', '.join(_OPTIMIZATION)}.",
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.intra_op_threads or available_cores()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = _OPTIMIZATION[settings.graph_optimization]
    options.enable_cpu_mem_arena = settings.memory_arena
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spinning else "0")
    # Threads wait actively within a call and not after it: otherwise they take the cores of whatever the app does
    # next, another session above all, which runs at half its speed for it.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def missing_feed(error: KeyError, feeds: Mapping[str, Any], wanted: Sequence[str]) -> InputError:
    """The error for feeds that lack one of the inputs ``wanted``; ``error`` names it."""
    return InputError(
        f"the graph's input {error} is not among the feeds {', '.join(feeds)}",
        hint=f"Feed {', '.join(wanted)}.",
    )


def available_cores() -> int:
    """How many cores this process may use.

    Left to itself onnxruntime counts the machine's cores, also those that a container or ``taskset``
    withholds, and threads that share a core make a small model many times slower.
    """
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
