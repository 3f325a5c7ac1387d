"""The power mode of a device over SSH, in the words of its row: before, meanwhile, and whether it is back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pocketformer.runtime.errors import PocketformerError

if TYPE_CHECKING:
    from pocketformer.pipeline.fleet import Place

Values = dict[str, Any]
# The device puts its mode back by itself; a link that broke may be away for a while.
_PAUSES_S = (1.0, 2.0, 4.0, 8.0)
_TRIES_WITHOUT_LINK = 2
NOT_RESTORED = "power-not-restored"


def power_row(found: Mapping[str, Any] | None, change: Mapping[str, Any] | None) -> Values | None:
    """``power`` of a row: as probing ``found`` it, or as a ``power`` event of the agent told that it was changed."""
    if change is None:
        return None if found is None else _setting(found)
    return {
        **_setting(change.get("during") or change["before"]),
        "change": {
            "asked": _text(change.get("asked")),
            "jetson_clocks": bool(change.get("jetson_clocks")),
            "before": _setting(change["before"]),
            "after": _setting(change["after"]) if change.get("after") else None,
            "restored": change.get("restored"),
            "by_hand": _text(change.get("by_hand")),
        },
    }


def change_in_words(change: Mapping[str, Any]) -> str:
    """One line for who waits: what it was put into, or that it is back."""
    before, during = _setting(change["before"]), _setting(change.get("during") or change["before"])
    if change.get("restored") is None:
        locked = ", clocks locked" if during["clocks_locked"] and change.get("jetson_clocks") else ""
        return f"power mode {during['mode']}{locked}, before {before['mode']}"
    return f"power mode {_setting(change['after'])['mode']} again" if change["restored"] else ""


def look_again(place: Place, change: Mapping[str, Any]) -> tuple[Values, str | None]:
    """After a failure, over new connections: the change with what the device is in now, and what to warn of."""
    now: Mapping[str, Any] | None = None
    failures = 0
    for pause in _PAUSES_S:
        time.sleep(pause)
        try:
            with place.connection(bare=True) as device:
                now = device.probe().get("power")
        except PocketformerError:
            failures += 1
            if failures == _TRIES_WITHOUT_LINK:
                break
            continue
        if now is not None and _same(change["before"], now):
            return {**change, "after": now, "restored": True, "by_hand": None}, None
    by_hand, before = _text(change.get("by_hand")), _setting(change["before"])
    seen = "WHETHER THE POWER MODE WAS PUT BACK IS NOT KNOWN: it was"
    if now is not None:
        seen = f"THE POWER MODE WAS NOT PUT BACK: it is {_setting(now)['mode']} and was"
    told = {**change, "after": now, "restored": None if now is None else False}
    return told, f"{seen} {before['mode']}; on the device run: {by_hand}"


def _same(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    locked = (before.get("clocks_locked"), now.get("clocks_locked"))
    return before.get("mode") == now.get("mode") and (None in locked or locked[0] == locked[1])


def _setting(values: Mapping[str, Any]) -> Values:
    return {"mode": _text(values.get("mode")), "clocks_locked": values.get("clocks_locked")}


def _text(value: object) -> str | None:
    from pocketformer.targets.ssh import scrub

    return None if value is None else scrub(str(value))
