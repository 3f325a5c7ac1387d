"""Which devices a bench measures, and how each is reached: from the recipe's targets, or a fleet file.

A fleet file is YAML, one entry a device::

    devices:
      - target: cpu
      - {name: pi, target: raspberry-pi-5, address: ssh://pi@pi5.local, python: ~/venv/bin/python3}
      - target: tensorrt-rtx-sm89

It holds no secrets: keys are named by their path, and passwords are never used.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import pydantic
import yaml
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from pocketformer.runtime.errors import DeviceError, InputError, RecipeError

if TYPE_CHECKING:
    from pocketformer.pipeline.recipe import Recipe
    from pocketformer.targets.profile import TargetProfile
    from pocketformer.targets.remote import RemoteDevice

Way = Literal["here", "gpu", "ssh", "engine", "engine-there"]
OnEvent = Callable[[Mapping[str, Any]], None]
_FAR = ("ssh", "engine-there")
_SSH = "ssh://"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# What people write where a key of ours has another name or none.
_MEANT = {
    "port": "It stands in the address: ssh://user@host:2222.",
    "host": "Write it as an address: ssh://user@host.",
    "user": "Write it in the address: ssh://user@host.",
    "password": "Passwords are never used: put your public key on the device.",
    "key": "Did you mean 'identity'?",
    "power_modes": "Did you mean 'power_mode'? It takes one or several.",
}


def _listed(value: object) -> object:
    """One or several, names or numbers, as a list of texts."""
    several = value if isinstance(value, (list, tuple)) else [value]
    return [str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in several]


_PowerMode = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class FleetDevice:
    """One device as a fleet file or a recipe names it. ``target`` or ``address`` is needed."""

    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$",
        description="What reports call it: letters, digits and . _ : - in one word.",
    )
    target: str | None = Field(default=None, description="A profile: its name, or the path of its file.")
    address: str | None = Field(default=None, description="ssh://user@host, with :port if it is not 22.")
    python: str = Field(default="python3", description="Python on the device.")
    folder: str | None = Field(default=None, description="Where to work there; null: its TMPDIR or /tmp.")
    identity: Path | None = Field(default=None, description="Private key file here.")
    known_hosts: Path | None = Field(default=None, description="File here with the device's host key.")
    wheels: Path | None = Field(
        default=None,
        description="Folder here with wheels of what its Python may lack; nothing of them stays there.",
    )
    connect_timeout_s: int = Field(default=10, ge=1, description="Seconds to wait for a connection.")
    threads: int | None = Field(default=None, ge=0, description="Threads there; 0: all cores.")
    emulated: bool = Field(default=False, description="Whether it is an emulator: it has no speed then.")
    power_mode: Annotated[tuple[_PowerMode, ...], BeforeValidator(_listed)] = Field(
        default=(),
        description="Power mode of a Jetson to measure in, by name or number; several: each in turn.",
    )
    jetson_clocks: bool = Field(default=False, description="Whether to lock a Jetson's clocks meanwhile.")
    gpu: int = Field(default=0, ge=0, description="Which GPU of this machine, as CUDA counts.")
    cuda_graph: bool = Field(default=False, description="Whether that GPU replays CUDA graphs.")


@dataclass(frozen=True, kw_only=True)
class Place:
    """One device of a bench: its name in the report, the profile it has to fit, and how it is measured.

    ``way``: "here" (this machine's processor), "gpu" (its GPU), "ssh" (onnxruntime over there), "engine" (a TensorRT
    engine is built here and never run) or "engine-there" (one is built over SSH, and measured there where the GPU for
    it is). ``power_mode``: what it is put into meanwhile; None: it is measured in the mode that it is in.
    """

    name: str
    way: Way
    device: FleetDevice
    profile: TargetProfile | None = None
    power_mode: str | None = None

    @property
    def machine(self) -> str:
        """One word a machine: what shares it is measured one after the other. Engines are built on this one."""
        host = self._host if self.way in _FAR else ""
        return "" if host in _LOOPBACK else host

    @property
    def threads(self) -> int | None:
        """Threads for the bundle there; None: as the bundle says."""
        if self.device.threads is not None:
            return self.device.threads
        return (self.profile.threads or None) if self.profile is not None else None

    @property
    def _host(self) -> str:
        from pocketformer.targets.ssh import Address

        return Address.parse(str(self.device.address)).host.lower()

    def connection(self, on_event: OnEvent | None = None, *, bare: bool = False) -> RemoteDevice:
        """The device over SSH, not yet connected; ``on_event`` hears its agent, ``bare`` brings it no wheels."""
        return connection_to(replace(self.device, wheels=None) if bare else self.device, on_event)


def connection_to(device: FleetDevice, on_event: OnEvent | None = None) -> RemoteDevice:
    """The device at its address, not yet connected; ``on_event`` hears its agent."""
    from pocketformer.targets.remote import RemoteDevice
    from pocketformer.targets.ssh import SshOptions

    return RemoteDevice(
        str(device.address),
        python=device.python,
        folder=device.folder,
        wheels=device.wheels,
        options=SshOptions(
            identity=device.identity,
            known_hosts=device.known_hosts,
            connect_timeout_s=device.connect_timeout_s,
        ),
        on_event=on_event,
    )


def load_fleet(path: Path) -> tuple[FleetDevice, ...]:
    """The devices of a fleet file, each with its name; paths in it are taken from its own folder.

    ``RecipeError`` names the file, the device and the key that is wrong, with the nearest known one.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such fleet file", hint="Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a fleet file ({error})") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"{path}: is not YAML: {error}") from error
    hint = "Its one key is `devices`, a list of devices; see docs/targets.md."
    if not isinstance(content, Mapping) or not isinstance(content.get("devices"), list):
        raise RecipeError(f"{path}: is not a fleet file", hint=hint)
    for key in content:
        if key != "devices":
            raise RecipeError(f"{path}: unknown key {key!r}", hint=hint)
    if not content["devices"]:
        raise RecipeError(f"{path}: names no device", hint=hint)
    devices = tuple(_entry(values, f"{path}: device {i}") for i, values in enumerate(content["devices"], 1))
    return tuple(_from_folder(device, path.resolve().parent) for device in devices)


def resolve_places(targets: Sequence[str], devices: Sequence[FleetDevice]) -> tuple[Place, ...]:
    """What to measure: every target, then the devices that no target names. Nothing is connected yet.

    A target is the name of one of ``devices``, an address or a profile. A device that is measured in several power
    modes is as many places, each with the mode in its name. ``InputError`` and ``DeviceError`` for what cannot be
    measured, two devices of one name, a key file that is not there.
    """
    named = {name_of(device): device for device in devices}
    if len(named) < len(devices):
        names = [name_of(device) for device in devices]
        twice = next(name for name in names if names.count(name) > 1)
        raise RecipeError(f"two devices are called {twice!r}", hint="Give each a name of its own.")
    wanted = [named.pop(text) if text in named else _plain(text) for text in dict.fromkeys(targets)]
    places = tuple(place for device in (*wanted, *named.values()) for place in _in_each_mode(_place(device)))
    for name in [place.name for place in places]:
        if sum(place.name == name for place in places) > 1:
            raise RecipeError(f"two devices are called {name!r}", hint="Give each a name of its own.")
    here = [place.name for place in places if place.way == "here"]
    if len(here) > 1:
        raise RecipeError(
            f"{here[0]!r} and {here[1]!r} are both this machine",
            hint="Name it once; use --threads for its threads.",
        )
    return places


def places_of(recipe: Recipe) -> tuple[Place, ...]:
    """The places of a recipe: its targets, and the devices that its bench describes."""
    devices = [device for step in recipe.steps if step.name == "bench" for device in step.config.devices]
    return resolve_places(recipe.targets, devices)


def threads_here(recipe: Recipe) -> int | None:
    """The threads of a run on this machine: the recipe's, else those of the target that it is; None: all there are."""
    here = (place for place in places_of(recipe) if place.way == "here")
    return recipe.threads or next((place.threads for place in here), None)


def lacking_gpu(places: Sequence[Place]) -> dict[str, tuple[str, ...]]:
    """What this machine is seen to lack, by the name of each place that is its GPU and cannot be measured for it."""
    from pocketformer.targets.support import missing_for_gpu

    found = {p.name: missing_for_gpu(p.profile) for p in places if p.way == "gpu" and p.profile is not None}
    return {name: reasons for name, reasons in found.items() if reasons}


def name_of(device: FleetDevice) -> str:
    """What reports call it: its name, else its host (with the port that is not 22), else its profile."""
    if device.name is not None:
        return device.name
    if device.address is not None:
        from pocketformer.targets.ssh import Address

        address = Address.parse(device.address)
        return address.host + (f":{address.port}" if address.port not in (None, 22) else "")
    from pocketformer.targets.profile import find_target

    return find_target(str(device.target)).name


def _plain(text: str) -> FleetDevice:
    return FleetDevice(address=text) if text.startswith(_SSH) else FleetDevice(target=text)


def _in_each_mode(place: Place) -> list[Place]:
    modes = place.device.power_mode
    if len(modes) < 2:
        return [replace(place, power_mode=mode) for mode in modes] or [place]
    return [replace(place, name=f"{place.name}-{mode}", power_mode=mode) for mode in modes]


def _check_power(place: Place) -> None:
    """``DeviceError`` where power modes are asked for and cannot be there."""
    if not place.device.power_mode and not place.device.jetson_clocks:
        return
    if place.way not in _FAR:
        where = "is this machine" if place.way in ("here", "gpu") else "is built and never run"
        raise DeviceError(
            f"{place.name!r} {where}, and power modes are changed on devices over SSH",
            hint="Name the board's address, --target ssh://user@host; from the board itself ssh://user@localhost.",
        )
    if place.profile is not None and not place.profile.power_modes:
        raise DeviceError(
            f"target {place.profile.name!r} has no power modes",
            hint="Leave them out, or list the device's under power_modes in a profile of your own.",
        )


def _place(device: FleetDevice) -> Place:
    from pocketformer.targets.profile import find_target
    from pocketformer.targets.ssh import check_options
    from pocketformer.targets.support import (
        BUILT_HERE,
        BUILT_THERE,
        MEASURED_HERE,
        ON_GPU,
        OVER_SSH,
        require_usable,
    )
    from pocketformer.targets.wheels import check_folder

    if device.target is None and device.address is None:
        raise RecipeError("a device needs a target or an address", hint="address: ssh://user@host")
    name = name_of(device)
    profile = None if device.target is None else find_target(device.target)
    if profile is not None:
        if device.address is None and profile.reach.startswith(_SSH):
            device = replace(device, address=profile.reach)
        if device.address is not None:
            profile = profile.model_copy(update={"reach": device.address})
        ways: dict[str, Way] = {
            MEASURED_HERE: "here",
            ON_GPU: "gpu",
            OVER_SSH: "ssh",
            BUILT_HERE: "engine",
            BUILT_THERE: "engine-there",
        }
        way = ways[require_usable(profile)]
    else:
        way = "ssh"
    if way != "gpu" and (device.gpu or device.cuda_graph):
        raise RecipeError(
            f"{name!r} is no GPU of this machine, and is given gpu or cuda_graph",
            hint="These are for a device whose target is gpu, or a profile like it.",
        )
    place = Place(name=name, way=way, device=device, profile=profile)
    _check_power(place)
    if way in _FAR:
        check_options(place.connection().options)
        if device.wheels is not None:
            check_folder(device.wheels)
    elif device.emulated:
        raise DeviceError(
            f"{place.name!r} is said to be emulated and has no address",
            hint="Give the emulator's: ssh://user@host",
        )
    return place


def _entry(values: Any, where: str) -> FleetDevice:
    if not isinstance(values, Mapping):
        raise RecipeError(f"{where}: is {values!r}", hint="Write keys and values, such as `target: cpu`.")
    if values.get("name"):
        where += f" ({values['name']})"
    try:
        device = TypeAdapter(FleetDevice).validate_python(dict(values))
    except ValidationError as error:
        message, hint = _explain(error)
        raise RecipeError(f"{where}: {message}", hint=hint) from error
    if device.target is None and device.address is None:
        raise RecipeError(
            f"{where}: needs a target or an address", hint="For example address: ssh://user@host"
        )
    return device


def _explain(error: ValidationError) -> tuple[str, str]:
    problem = error.errors()[0]
    key = str(problem["loc"][0])
    known = [field.name for field in fields(FleetDevice)]
    if problem["type"] == "unexpected_keyword_argument":
        near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.5)
        usual = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(known)}."
        return f"unknown key {key!r}", _MEANT.get(key.lower(), usual)
    message = f"{key!r} is {problem['input']!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
    return message, f"{key}: {cast(Any, FleetDevice).__pydantic_fields__[key].description}"


def _from_folder(device: FleetDevice, folder: Path) -> FleetDevice:
    """The device with its files found from the fleet file's folder, and a name."""
    update: dict[str, Any] = {
        key: folder / path.expanduser()
        for key in ("identity", "known_hosts", "wheels")
        if (path := getattr(device, key)) is not None
    }
    target = device.target
    if target is not None and (target.endswith((".yaml", ".yml")) or "/" in target):
        update["target"] = str(folder / Path(target).expanduser())
    device = replace(device, **update)
    return replace(device, name=name_of(device))
