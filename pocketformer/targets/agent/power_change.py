"""Changes a Jetson's power mode and clocks for one job, and puts back what was there before, whatever happens.

``nvpmodel -m`` keeps a mode across reboots, so nothing but us would put it back: see ``power_keeper``.

How the tools behave is known from what others posted: ``nvpmodel`` may ask for a reboot; answered with no, it changes
nothing (github.com/almond-bot/axol/pull/107), and ``--force`` would reboot at once. Its exit code tells little: the
mode is asked for again. ``jetson_clocks`` (a shell script of NVIDIA's) takes no path with a blank and overwrites no
file. Nothing here has run on a board.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from pocketformer.runtime.errors import InputError
from pocketformer.targets.agent.events import Events, UnfitDeviceError
from pocketformer.targets.agent.power import find_tool
from pocketformer.targets.agent.power_keeper import NO, PATIENCE_S, Keeper, Tools
from pocketformer.targets.power_modes import (
    PowerMode,
    parse_clocks,
    parse_power_mode,
    parse_power_mode_list,
)

_STORED = "clocks.conf"
_NO_RIGHTS = re.compile(
    r"^sudo: |not in the sudoers|not allowed to (run|execute)|may not run sudo|as a root user", re.M
)
_COMPLAINT = re.compile(r"^(?:NVPM ERROR|Error)\b.*", re.M)


@contextmanager
def changed_power(
    events: Events, folder: Path, *, mode: Optional[str], jetson_clocks: bool, root: Path = Path("/")
) -> Iterator[None]:
    """Within the block the device is in a power ``mode`` (name or number; None: as it is), its clocks locked if asked.

    A ``power`` event tells of ``before`` and ``during`` when it begins, and of ``after``, ``restored`` and ``by_hand``
    (what to type where that failed) when it ends. The stored clocks lie beside ``folder``, which goes with the link.
    ``UnfitDeviceError`` where the device has no such tools, gives no rights, or wants to reboot; ``InputError`` for a
    mode that it has not. In all these cases nothing is changed.
    """
    if mode is None and not jetson_clocks:
        yield
        return
    tools = _tools(jetson_clocks)
    found = _mode_now(tools)
    if found.id is None:
        raise UnfitDeviceError(
            "no-power-modes",
            "nvpmodel does not tell which power mode is in use there, so it could not be put back",
            hint="Run nvpmodel -q on the device and look.",
        )
    wanted = found.id if mode is None else _number(mode, _modes(tools, root), found)
    told: dict[str, Any] = {"asked": mode, "jetson_clocks": jetson_clocks, "before": _setting(tools)}
    if wanted == found.id and not jetson_clocks:
        told["during"] = told["before"]
        events.send("power", {**told, "after": told["before"], "restored": True, "by_hand": None})
        yield
        return
    store = _store(tools, folder)
    told["by_hand"] = _by_hand(found, store)
    keeper = Keeper(tools, found.id, wanted, store)
    try:
        try:
            if wanted != found.id:
                _change_mode(keeper, tools, wanted, found, events)
            if jetson_clocks:
                _lock_clocks(keeper, tools)
        except _UnchangedError:
            keeper.leave()
            raise
        told["during"] = _setting(tools)
        if jetson_clocks and told["during"]["clocks_locked"] is False:
            events.warning("clocks-not-locked", "jetson_clocks ran there, and the clocks are not locked")
        events.send("power", {**told, "after": None, "restored": None})
        yield
    finally:
        if keeper.holds:
            said = keeper.restore()
            _tell_restored(tools, told, found, store, said, events)


class _UnchangedError(UnfitDeviceError):
    """The change was refused, and the device is as it was."""


def _tools(jetson_clocks: bool) -> Tools:
    nvpmodel, clocks = find_tool("nvpmodel"), find_tool("jetson_clocks")
    if nvpmodel is None:
        raise UnfitDeviceError(
            "no-power-modes",
            "it has no nvpmodel, so there are no power modes to choose from",
            hint="Only Jetson boards have them: leave --power-mode and --jetson-clocks out for this device.",
        )
    if jetson_clocks and clocks is None:
        raise UnfitDeviceError(
            "no-power-modes", "it has no jetson_clocks", hint="Leave --jetson-clocks out for this device."
        )
    if os.geteuid() == 0:
        return Tools(nvpmodel, clocks, ())
    sudo = find_tool("sudo")
    if sudo is None:
        raise _no_rights(nvpmodel, clocks)
    return Tools(nvpmodel, clocks, (sudo, "-n"))


def _no_rights(nvpmodel: str, clocks: Optional[str]) -> UnfitDeviceError:
    tools = ", ".join(tool for tool in (nvpmodel, clocks) if tool)
    return UnfitDeviceError(
        "no-rights",
        "changing its power mode needs an administrator's rights, which this user has not without a password",
        hint=f"On the device, with visudo -f /etc/sudoers.d/power: USER ALL=(root) NOPASSWD: {tools}",
    )


def _call(call: Sequence[str]) -> tuple[int, str]:
    """Exit code and words of a tool that is told no, should it ask."""
    try:
        done = subprocess.run(
            call,
            input=NO,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"did not end within {PATIENCE_S:g} s"
    except OSError as error:
        return -1, str(error)
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _mode_now(tools: Tools) -> PowerMode:
    """The mode in use; everybody may ask on most boards."""
    plain = parse_power_mode(_call([tools.nvpmodel, "-q"])[1])
    if plain.id is not None or not tools.rights:
        return plain
    return parse_power_mode(_call([*tools.rights, tools.nvpmodel, "-q"])[1])


def _setting(tools: Tools) -> dict[str, Any]:
    """The mode and the clocks as a report has them."""
    now = _mode_now(tools)
    locked = None
    if tools.jetson_clocks is not None:
        locked = parse_clocks(_call(tools.clocks_call("--show"))[1]).locked
    return {"mode": now.name, "clocks_locked": locked}


def _modes(tools: Tools, root: Path) -> dict[int, str]:
    """The names of the modes by number, by the tool or else by its configuration."""
    listed = parse_power_mode_list(_call([tools.nvpmodel, "-p", "--verbose"])[1])
    if not listed.modes:
        try:
            text = (root / "etc/nvpmodel.conf").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return {}
        listed = parse_power_mode_list(text)
    return dict(listed.modes)


def _number(mode: str, modes: dict[int, str], found: PowerMode) -> int:
    """The number of a mode named by number, by its name in any case, or by its name without ``MODE_``."""
    numbers = {name.lower(): number for number, name in reversed(list(modes.items()))}
    if found.name is not None and found.id is not None:
        numbers.setdefault(found.name.lower(), found.id)
    for name in (mode.lower(), f"mode_{mode.lower()}"):
        if name in numbers:
            return numbers[name]
    if mode.isdecimal() and (int(mode) in modes or not modes):
        return int(mode)
    known = ", ".join(f"{name} ({number})" for number, name in modes.items()) or "none that it tells"
    near = difflib.get_close_matches(mode.lower(), list(numbers), n=1, cutoff=0.5)
    names = {name.lower(): name for name in modes.values()}
    raise InputError(
        f"it has no power mode {mode!r}; it has: {known}",
        hint=f"Did you mean {names.get(near[0], near[0])}?" if near else "Name one of these.",
    )


def _store(tools: Tools, folder: Path) -> Optional[Path]:
    """Where the clocks as they are were stored; None without jetson_clocks."""
    if tools.jetson_clocks is None:
        return None
    place = Path(tempfile.mkdtemp(prefix="pocketformer-clocks-", dir=folder.absolute().parent))
    store = place / _STORED
    try:
        if len(str(store).split()) != 1:
            raise UnfitDeviceError(
                "power-refused",
                "jetson_clocks takes no path with a blank, and the folder there has one",
                hint="Name another place with --folder.",
            )
        code, said = _call(tools.clocks_call("--store", str(store)))
        if code != 0 or not store.is_file() or store.stat().st_size == 0:
            raise _refusal(tools, "jetson_clocks could not store the clocks", said)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return store


def _refusal(tools: Tools, what: str, said: str) -> UnfitDeviceError:
    if _NO_RIGHTS.search(said):
        return _no_rights(tools.nvpmodel, tools.jetson_clocks)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    because = f": {lines[-1]}" if lines else ""
    return UnfitDeviceError(
        "power-refused", f"{what}{because}", hint="Try the same by hand on the device; see docs/targets.md."
    )


def _change_mode(keeper: Keeper, tools: Tools, wanted: int, found: PowerMode, events: Events) -> None:
    """``_UnchangedError`` when the device is in its mode still, ``UnfitDeviceError`` when it has to be put back."""
    code, said = keeper.ask("mode")
    now = _mode_now(tools)
    if now.id != wanted:
        refusal = _refusal(tools, f"nvpmodel did not take power mode {wanted}", said)
        if "reboot" in said.lower():
            refusal = UnfitDeviceError(
                "needs-reboot",
                f"it would have to reboot for power mode {wanted}, and was told not to",
                hint=f"Change it by hand (sudo nvpmodel -m {wanted}), let it reboot, and run again: a device that is "
                "in the mode already is measured as it is.",
            )
        if now.id == found.id:
            raise _UnchangedError(refusal.kind, f"{refusal.message}; nothing was changed", hint=refusal.hint)
        raise refusal
    complaint = _COMPLAINT.search(said)
    if complaint or code != 0:
        what = complaint[0] if complaint else f"exit code {code}"
        events.warning("power-complaint", f"nvpmodel said while changing the power mode: {what}")


def _lock_clocks(keeper: Keeper, tools: Tools) -> None:
    code, said = keeper.ask("clocks")
    if code != 0:
        raise _refusal(tools, "jetson_clocks could not lock the clocks", said)


def _tell_restored(
    tools: Tools, told: dict[str, Any], found: PowerMode, store: Optional[Path], said: str, events: Events
) -> None:
    """Look whether all is as it was, say so, and if not say loudly what to do."""
    after, mode = _setting(tools), _mode_now(tools)
    locked = told["before"]["clocks_locked"]
    same_clocks = locked is None or after["clocks_locked"] in (locked, None)
    restored = mode.id == found.id and same_clocks
    if restored and store is not None:
        shutil.rmtree(store.parent, ignore_errors=True)
    if not restored:
        complaint = _COMPLAINT.search(said)
        because = f" ({complaint[0]})" if complaint else ""
        told["by_hand"] = _by_hand(found, store)
        events.warning(
            "power-not-restored",
            f"THE POWER MODE WAS NOT PUT BACK: it was {told['before']['mode']} and is {after['mode']}{because}; "
            f"on the device run: {told['by_hand']}",
        )
    told.setdefault("during", None)
    events.send(
        "power", {**told, "after": after, "restored": restored, **({"by_hand": None} if restored else {})}
    )


def _by_hand(found: PowerMode, store: Optional[Path]) -> str:
    """What to type on the device to put all back."""
    commands = [f"sudo nvpmodel -m {found.id}"]
    if store is not None and store.is_file():
        commands.append(f"sudo jetson_clocks --restore {store}")
    return " && ".join(commands)
