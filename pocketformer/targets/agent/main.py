"""The agent's command line: it parses, calls, and turns every failure into one ``error`` event and an exit code."""

from __future__ import annotations

import argparse
import errno
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Optional

from pocketformer.runtime.errors import InputError, PocketformerError, VerificationError
from pocketformer.runtime.tensorrt.parser import RejectedGraphError
from pocketformer.targets.agent import device, power, work
from pocketformer.targets.agent.events import PROTOCOL, Events, UnfitDeviceError
from pocketformer.targets.agent.give import give
from pocketformer.targets.agent.leash import hold
from pocketformer.targets.agent.power_change import changed_power
from pocketformer.targets.agent.receive import receive
from pocketformer.targets.agent.wheels import install_wheels

_REPORT = "This is a defect of Pocketformer: report it with this message."


class _Parser(argparse.ArgumentParser):
    """Raises ``InputError`` where argparse would write to stderr and exit."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message, hint="Ask with --help what the agent takes.")


def run(arguments: Sequence[str]) -> int:
    """Run as a program; returns the exit code.

    Events keep standard output to themselves: whatever a library prints goes to stderr.
    """
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii", newline="\n")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return main(arguments, Events(stream))


def main(arguments: Sequence[str], events: Events) -> int:
    """One command: ``hello`` first, ``done`` last when all went well, else ``error``; returns the exit code."""
    try:
        options = _parser().parse_args(arguments)
        greeting = {
            "protocol": PROTOCOL,
            "command": options.command,
            "python": platform.python_version(),
            "pid": os.getpid(),
            "clock_utc_s": time.time(),
        }
        events.send("hello", greeting)
        if options.leash is not None:
            hold(options.leash, until_input_ends=options.command != "receive")
        if options.host_time is not None:
            skew = device.clock_skew(options.host_time, time.time())
            if skew is not None:
                events.warning("clock-skew", skew)
        if options.packages is not None:
            sys.path.append(str(options.packages))  # last: what the device has itself is used
        _run(options, events)
    except PocketformerError as error:
        return _tell(events, _kind(error), error.message, error.hint, error.exit_code)
    except MemoryError:
        hint = "Stop other programs on the device, or choose a smaller model."
        return _tell(events, "low-memory", "the memory there is used up", hint, UnfitDeviceError.exit_code)
    except ImportError as error:  # found, and broken: built for another Python or another libc
        hint = "Install it anew on the device, or name another Python with --python."
        message = f"{error.name or 'a package'} cannot be imported there: {error}"
        return _tell(events, "missing-package", message, hint, UnfitDeviceError.exit_code)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "Free some space on the device, or name a roomier place with --folder."
            return _tell(events, "no-space", "the disk there is full", hint, UnfitDeviceError.exit_code)
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return _tell(events, "bad-input", what, "Check the path and its rights.", InputError.exit_code)
    except Exception as error:  # noqa: BLE001 - the one place where a defect becomes an event
        return _tell(events, "internal", f"{type(error).__name__}: {error}", _REPORT, 1)
    events.send("done")
    return 0


def _run(options: argparse.Namespace, events: Events) -> None:
    if options.command == "probe":
        facts = {**device.describe(options.root, options.folder), "power": power.state()}
        missing = [name for name, version in facts["packages"].items() if version is None]
        if missing:
            events.warning("missing-package", f"{', '.join(missing)} not installed for this Python")
        for sign in facts["throttling"]:
            events.warning("throttling", sign)
        events.send("result", facts)
        return
    if options.command == "packages":
        events.send("result", device.installed())
        return
    if options.command == "install":
        events.progress("installing packages from wheels, for this session alone")
        events.send("result", {"wheels": install_wheels(options.wheels, options.folder)})
        return
    if options.command == "receive":
        events.send("result", receive(sys.stdin.buffer, options.folder))
        return
    if options.command == "give":
        give(options.folder, options.names, events)
        return
    if options.command in ("builder", "build"):
        device.require_packages(("numpy",))
        from pocketformer.targets.agent import engine  # its parts need numpy

        if options.command == "build":
            engine.build(options.folder, events, root=options.root)
        else:
            events.send("result", engine.builder_facts(options.root, tuple(options.library)))
        return
    device.require_packages()
    device.require_memory(options.root, work.graph_bytes(options.bundle))
    if options.command == "verify":
        work.verify_bundle(options.bundle, events)
    elif options.command == "predict":
        work.predict(
            options.bundle,
            work.read_texts(options.inputs),
            events,
            logits=options.output == "logits",
            batch_size=options.batch_size,
        )
    else:
        _measure(options, events)


def _measure(options: argparse.Namespace, events: Events) -> None:
    texts = work.read_texts(options.inputs)
    with changed_power(
        events,
        options.leash or options.bundle,
        mode=options.power_mode,
        jetson_clocks=options.jetson_clocks,
        root=options.root,
    ):
        work.measure_bundle(
            options.bundle,
            texts,
            events,
            root=options.root,
            rounds=options.rounds,
            time_limit_s=options.time_limit,
            threads=options.threads,
            loadgen_s=options.loadgen_time,
            batch_size=options.batch_size,
            folder=options.leash,
            energy_s=options.energy_time,
        )


def _parser() -> _Parser:
    parser = _Parser(
        prog="agent", description="Probe this device, and run a bundle on it.", allow_abbrev=False
    )
    parser.add_argument("--root", type=Path, default=Path("/"), help="where /proc and /sys are looked for")
    parser.add_argument("--host-time", type=float, help="the host's clock, seconds since 1970 in UTC")
    parser.add_argument("--leash", type=Path, help="end when standard input closes or this folder is gone")
    parser.add_argument("--packages", type=Path, help="folder of packages for what this Python lacks")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    command = commands.add_parser("probe", help="what this device is")
    command.add_argument("--folder", type=Path, default=Path(), help="where free space is looked at")
    commands.add_parser("packages", help="which packages this Python has, and which wheels it takes")
    command = commands.add_parser("install", help="unpack all wheels of a folder into a new one")
    command.add_argument("wheels", type=Path)
    command.add_argument("folder", type=Path)
    command = commands.add_parser("receive", help="files from standard input")
    command.add_argument("folder", type=Path)
    command = commands.add_parser("give", help="files of a folder, back to the host")
    command.add_argument("folder", type=Path)
    command.add_argument("names", nargs="+")
    command = commands.add_parser("builder", help="which TensorRT is here, and for which GPUs it builds")
    command.add_argument("library", nargs="+", help="names of libraries, the preferred one first")
    command = commands.add_parser("build", help="a TensorRT engine out of the graph in a folder")
    command.add_argument("folder", type=Path)
    command = commands.add_parser("verify", help="hashes, and the golden samples replayed")
    command.add_argument("bundle", type=Path)
    command = commands.add_parser("predict", help="an answer for each text")
    command.add_argument("bundle", type=Path)
    command.add_argument("inputs", type=Path, help="JSON lines with a text each")
    command.add_argument("--output", choices=("labels", "logits"), default="logits")
    command.add_argument("--batch-size", type=int, default=32)
    command = commands.add_parser("measure", help="latency")
    command.add_argument("bundle", type=Path)
    command.add_argument("inputs", type=Path, help="JSON lines with a text each")
    command.add_argument("--rounds", type=int, default=50)
    command.add_argument("--time-limit", type=float, default=60.0, help="seconds for each workload")
    command.add_argument("--threads", type=int, help="default: what the bundle says")
    command.add_argument("--loadgen-time", type=float, default=0.0, help="seconds a scenario; 0: none")
    command.add_argument("--batch-size", type=int, default=32, help="rows of a call in the offline scenario")
    command.add_argument("--energy-time", type=float, default=5.0, help="seconds of power samples; 0: none")
    command.add_argument("--power-mode", help="name or number of a Jetson's power mode, put back afterwards")
    command.add_argument("--jetson-clocks", action="store_true", help="lock the clocks meanwhile")
    return parser


def _kind(error: PocketformerError) -> str:
    if isinstance(error, UnfitDeviceError):
        return error.kind
    if isinstance(error, VerificationError):
        return "corrupt-bundle"
    if isinstance(error, RejectedGraphError):
        return "rejected-graph"
    return "bad-input" if isinstance(error, InputError) else "failed"


def _tell(events: Events, kind: str, message: str, hint: Optional[str], exit_code: int) -> int:
    values: dict[str, Any] = {"kind": kind, "message": message, "hint": hint, "exit_code": exit_code}
    events.send("error", values)
    return exit_code
