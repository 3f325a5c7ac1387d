"""Brings a device the packages that its Python lacks, out of a folder of wheels here, for one session."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketformer.runtime.errors import DeviceError
from pocketformer.targets.agent.device import PACKAGES
from pocketformer.targets.agent.interpreter import download_command
from pocketformer.targets.loadgen import DISTRIBUTIONS as LOADGEN
from pocketformer.targets.wheels import check_folder, choose_wheels

if TYPE_CHECKING:
    from pocketformer.targets.remote import RemoteDevice


def bring_packages(device: RemoteDevice, wheels: Path) -> bool:
    """Install over there what is missing, into ``packages`` of this session's folder; False: nothing was.

    What the device has stays in use, whatever its version. LoadGen is brought where a wheel of it fits.
    ``InputError`` for a folder without wheels, ``DeviceError`` naming the packages for which none fits.
    """
    check_folder(wheels)
    there = device.single("packages")
    missing = {name: PACKAGES[name] for name, version in there["packages"].items() if version is None}
    wanted = {**missing, **({"mlperf_loadgen": LOADGEN} if there["loadgen"] is None else {})}
    chosen = choose_wheels((path.name for path in wheels.iterdir()), wanted, there["interpreter"])
    lacking = [name for name in missing if chosen[name] is None]
    if lacking:
        raise DeviceError(
            f"no wheel at hand brings {' and '.join(lacking)} to {device.address}, {_in_words(there['interpreter'])}",
            hint=f"Fill the folder of --wheels: {download_command(there['interpreter'], lacking)}",
        )
    names = [name for name in chosen.values() if name is not None]
    if not names:
        return False
    device.send({name: wheels / name for name in names}, "wheels")
    device.run("install", f"{device.folder}/wheels", f"{device.folder}/packages")
    return True


def _in_words(python: Mapping[str, Any]) -> str:
    number = ".".join(map(str, python["version"]))
    libc = python["libc"] or "no C library that wheels name"
    version = ".".join(map(str, python["libc_version"] or ()))
    return f"Python {number} ({python['abi']}) on {python['machine']} with {libc} {version}".rstrip()
