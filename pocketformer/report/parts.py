"""What all parts of the schema are made of: how values are typed, and what every part refuses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

STANDARD_WORKLOADS = ("real", "1x32", "1x128", "8x128")


def _without_surrogates(value: object) -> object:
    """Half a UTF-16 pair cannot be written as UTF-8; JSON lines from elsewhere do carry some."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


Text = Annotated[str, BeforeValidator(_without_surrogates)]
Score = Annotated[float, Field(ge=-1, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Difference = Annotated[float, Field(ge=-2, le=2)]
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Interval = tuple[float, float]
DeviceStatus = Literal["measured", "emulated", "built", "failed"]


def ordered(name: str, interval: Interval | None) -> None:
    """Refuse an interval whose ends are the wrong way round."""
    if interval is not None and interval[0] > interval[1]:
        raise ValueError(f"{name}: the lower end {interval[0]} lies above the upper end {interval[1]}")


class Part(BaseModel):
    """What all parts share: no key that the schema does not name, no NaN, no change after the fact."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
