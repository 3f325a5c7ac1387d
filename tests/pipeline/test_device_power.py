"""What a row says of a power mode when the device was lost: seen again, seen changed, or not seen."""

from __future__ import annotations

from typing import Any

import pytest

from pocketformer.pipeline import device_power
from pocketformer.pipeline.device_power import look_again, power_row
from pocketformer.report.schema import PowerState
from pocketformer.runtime.errors import DeviceError

FOUND = {"mode": "15W", "clocks_locked": False}
MEANWHILE = {"mode": "25W", "clocks_locked": True}
CHANGE = {
    "asked": "25w", "jetson_clocks": True, "before": FOUND, "during": MEANWHILE, "after": None, "restored": None,
    "by_hand": "sudo nvpmodel -m 0",
}  # fmt: skip


class PlaceStandIn:
    """Stands in for a place: each connection finds the next of ``settings``; None: there is no link."""

    def __init__(self, *settings: dict[str, Any] | None) -> None:
        self.settings = list(settings)

    def connection(self, *, bare: bool) -> PlaceStandIn:
        return self

    def __enter__(self) -> PlaceStandIn:
        if self.settings[0] is None:
            self.settings.pop(0)
            raise DeviceError("lost")
        return self

    def __exit__(self, *_: object) -> None: ...

    def probe(self) -> dict[str, Any]:
        return {"power": self.settings.pop(0) if len(self.settings) > 1 else self.settings[0]}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_power, "_PAUSES_S", (0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("settings", "restored", "warning"),
    [
        ((FOUND,), True, None),
        ((MEANWHILE, FOUND), True, None),
        ((None, {"mode": "15W", "clocks_locked": None}), True, None),
        ((MEANWHILE,), False, "THE POWER MODE WAS NOT PUT BACK: it is 25W and was 15W"),
        (({"mode": "15W", "clocks_locked": True},), False, "NOT PUT BACK"),
        ((None, None), None, "WHETHER THE POWER MODE WAS PUT BACK IS NOT KNOWN: it was 15W"),
    ],
)
def test_the_device_is_asked_again(settings: Any, restored: bool | None, warning: str | None) -> None:
    place: Any = PlaceStandIn(*settings)
    change, told = look_again(place, CHANGE)
    assert change["restored"] is restored
    assert (warning is None) is (told is None)
    if warning is not None and told is not None:
        assert warning in told
        assert told.endswith("on the device run: sudo nvpmodel -m 0")
    row = PowerState.model_validate(power_row(FOUND, change))
    assert row.mode == "25W"
    assert row.change is not None
    assert (row.change.by_hand is None) is (restored is True)


def test_a_row_of_a_device_that_was_not_changed() -> None:
    assert power_row(None, None) is None
    assert power_row({**FOUND, "else": 1}, None) == FOUND


def test_what_a_device_says_reaches_a_row_without_control_characters() -> None:
    row = power_row(FOUND, {**CHANGE, "by_hand": "run \x1b[2J", "during": None})
    assert row is not None
    assert row["change"]["by_hand"] == "run  [2J"
    assert row["mode"] == "15W"
