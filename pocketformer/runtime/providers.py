"""Execution providers of onnxruntime: what one needs on this machine, and sessions that never fall back in silence.

Left to itself onnxruntime answers a request for a GPU that it cannot use with a CPU session and a line on stderr.
Here that is a ``DeviceError`` which names what is missing. Imported only for providers other than the CPU's.
Experimental: no GPU was at hand. The refusals ran on machines without one, the sessions never on one with.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import onnxruntime as ort

from pocketformer.runtime.errors import DeviceError, InputError, VerificationError
from pocketformer.runtime.manifest import CPU_PROVIDER

CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
# What people may write for a provider.
SHORT_NAMES: Mapping[str, str] = {
    "cpu": CPU_PROVIDER,
    "cuda": CUDA_PROVIDER,
    "tensorrt": TENSORRT_PROVIDER,
}
DRIVER_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

_LIBRARIES = {
    CUDA_PROVIDER: "onnxruntime_providers_cuda",
    TENSORRT_PROVIDER: "onnxruntime_providers_tensorrt",
}
_FATAL_ONLY = 4
# Around this onnxruntime tells its own source files and the name of the host, which belong in no report.
_CUDA_FAILURE = re.compile(r"CUDA failure \d+: [^;]*[^; ]")
_NO_FALLBACK = "session.disable_cpu_ep_fallback"


def create_session(
    path: str,
    options: Any,
    providers: Sequence[str],
    provider_options: Optional[Mapping[str, Mapping[str, str]]] = None,
    *,
    content: Optional[bytes] = None,
) -> Any:
    """An ``onnxruntime.InferenceSession`` in which every one of ``providers`` is at work.

    Operators go to the CPU only where ``CPUExecutionProvider`` is among ``providers``; else a graph with an operator
    that the others lack is refused. ``provider_options`` are onnxruntime's own, by provider; ``content`` is
    what the file at ``path`` holds, where it was read already.
    Raises ``DeviceError`` when a provider cannot be used here, ``VerificationError`` for a graph that cannot be read.
    """
    require_providers(providers)
    if CUDA_PROVIDER in providers or TENSORRT_PROVIDER in providers:
        _load_cuda_wheels()
    if CPU_PROVIDER not in providers:
        options.add_session_config_entry(_NO_FALLBACK, "1")
    options.log_severity_level = _FATAL_ONLY  # what fails is told by the error that is raised
    chosen = [(name, dict((provider_options or {}).get(name, {}))) for name in providers]
    try:
        session = ort.InferenceSession(
            path if content is None else content, sess_options=options, providers=chosen, enable_fallback=0
        )
    except Exception as error:  # onnxruntime's own exceptions share no base class
        unloadable = {name: _unloadable(name) for name in providers}
        if any(unloadable.values()):
            raise _unavailable(unloadable) from error
        if "fallback to CPU EP has been explicitly disabled" in str(error):
            raise DeviceError(
                f"{path} has operators that {', '.join(providers)} cannot run; on the CPU they were not asked for",
                hint=f"Add {CPU_PROVIDER} after it to allow that: the placement then counts them.",
            ) from error
        failure = _CUDA_FAILURE.search(str(error))
        if failure is not None:
            raise _unavailable({name: [failure[0]] for name in providers if name in _LIBRARIES}) from error
        raise VerificationError(
            f"onnxruntime {ort.__version__} cannot load {path} for {', '.join(providers)}: {error}",
            hint="Try the CPU; if it fails there as well, the graph is damaged.",
        ) from error
    absent = [name for name in providers if name not in session.get_providers()]
    if absent:
        unknown = ["onnxruntime left it out and did not say why; its log on stderr may"]
        raise _unavailable({name: _unloadable(name) or unknown for name in absent})
    return session


def require_providers(providers: Sequence[str]) -> None:
    """``DeviceError`` that names everything that is seen to be missing for ``providers``; see ``what_is_missing``."""
    missing = {name: what_is_missing(name) for name in providers}
    if any(missing.values()):
        raise _unavailable(missing)


def provider_name(text: str) -> str:
    """The provider that a short name such as "cuda" means; ``InputError`` for one that is not known."""
    name = SHORT_NAMES.get(text.lower(), text)
    if name not in SHORT_NAMES.values():
        raise InputError(f"there is no provider {text!r}", hint=f"Use one of {', '.join(SHORT_NAMES)}.")
    return name


def what_is_missing(provider: str) -> tuple[str, ...]:
    """Why ``provider`` cannot work here, each reason as the end of a sentence; empty when nothing is seen to lack.

    Looks for the NVIDIA driver and for a build of onnxruntime with the provider. Libraries that such a build needs
    (CUDA, cuDNN, TensorRT) are found out only when a session is made.
    """
    reasons = []
    available = ort.get_available_providers()
    if provider not in available:
        reasons.append(f"onnxruntime {ort.__version__} was built without it (it has {', '.join(available)})")
    if provider in _LIBRARIES:
        reasons.extend(driver_missing())
    return tuple(reasons)


def load_driver() -> Any:
    """The library of NVIDIA's driver; ``DeviceError`` where there is none."""
    try:
        return ctypes.CDLL(DRIVER_LIBRARY)
    except OSError as error:
        raise DeviceError(
            f"there is no NVIDIA driver ({error})",
            hint="This needs an NVIDIA GPU with its driver; `pocketformer doctor` lists what is here.",
        ) from error


def driver_missing() -> tuple[str, ...]:
    """Why there is no NVIDIA driver here; empty when its library can be loaded."""
    try:
        load_driver()
    except DeviceError as error:
        return (error.message,)
    return ()


def _unloadable(provider: str) -> list[str]:
    """Which library keeps the provider from being loaded.

    Only to be asked after onnxruntime has tried: loading a provider before it would leave it without its host.
    """
    stem = _LIBRARIES.get(provider)
    if stem is None:
        return []
    folder = Path(ort.__file__).parent / "capi"
    name = f"{stem}.dll" if sys.platform == "win32" else f"lib{stem}.so"
    if not (folder / name).is_file():
        return []  # built another way; nothing more can be told
    try:
        ctypes.CDLL(str(folder / name))
    except OSError as error:
        return [f"a library is missing or does not fit: {error}"]
    return []


def _load_cuda_wheels() -> None:
    """Let onnxruntime load CUDA and cuDNN from NVIDIA's wheels, where it can (1.21 and later)."""
    load = getattr(ort, "preload_dlls", None)
    if load is not None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            load()


def _unavailable(reasons: Mapping[str, Sequence[str]]) -> DeviceError:
    """The error for providers with the reasons why each cannot work; those without one are passed over."""
    lacking = {name: found for name, found in reasons.items() if found}
    told = "; ".join(dict.fromkeys(reason for found in lacking.values() for reason in found))
    hint = "Choose another target or provider; `pocketformer doctor` lists what is here."
    if any(name in _LIBRARIES for name in lacking):
        hint = "It needs an NVIDIA GPU and its driver, onnxruntime-gpu in place of onnxruntime, CUDA and cuDNN: see "
        hint += "docs/gpu.md; `pocketformer doctor` lists what is here."
    return DeviceError(f"{', '.join(lacking)} cannot be used here: {told}", hint=hint)
