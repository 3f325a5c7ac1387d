"""What the engines beside onnxruntime ask of a bundle and of the package that runs it, in the same words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Union

from pocketformer.runtime.errors import InputError
from pocketformer.runtime.manifest import CPU_PROVIDER, SessionSettings


def refuse_providers(path: Union[str, Path], engine: str, settings: SessionSettings) -> None:
    """Raise ``InputError`` when ``settings`` name providers of onnxruntime, which ``engine`` has none of."""
    if settings.providers != (CPU_PROVIDER,):
        raise InputError(
            f"{path} runs in {engine}, which has none of onnxruntime's {', '.join(settings.providers)}",
            hint="Leave the providers out.",
        )


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, three at most: some go on with a build, a branch or a date."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("-", 1)[0])[:3])
