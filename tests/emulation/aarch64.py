"""An emulated ARM64 machine for anyone with Debian: its Python, numpy, onnxruntime and tokenizers under qemu-user.

    python tests/emulation/aarch64.py [--cpu cortex-a72]

prints the path of a program that stands in for ``python3`` on a board with that processor. It answers as the board
would, as far as instructions go; how long it takes says nothing about the board.

Everything comes through the ordinary clients: arm64 packages of Debian with apt-get, under a state folder of its
own, so that the machine's package lists stay untouched and no rights are needed; wheels with pip, of the same
versions as here. Both are kept in ``$XDG_CACHE_HOME/pocketformer/emulation`` (240 MB). What stays to be installed
is qemu itself: ``apt-get install qemu-user-static``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

QEMU = "qemu-aarch64-static"
RELEASE = "bookworm"
PYTHON = "3.11"  # the Python of that release
_DEBIAN = (
    "libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libssl3 libbz2-1.0 liblzma5 "
    f"python{PYTHON}-minimal libpython{PYTHON}-minimal libpython{PYTHON}-stdlib"
).split()
_WHEELS = ("numpy", "onnxruntime", "tokenizers")
# The tags that pip takes for a system with the C library of that release (2.36), as far as these wheels use them.
_PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LAYOUT = 1  # raised when what lies in the cache changes


class EmulationError(Exception):
    """No such machine can be made here; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What /proc/cpuinfo tells of one: the features that qemu gives it, and ARM's number for the part.

    onnxruntime looks at this file as well as at the processor, and its import crashes when they disagree.
    """

    features: str
    part: str
    revision: str


PROCESSORS: Mapping[str, Processor] = {
    # Raspberry Pi 4: no dot product instructions.
    "cortex-a72": Processor(
        features="fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid", part="0xd08", revision="0"
    ),
    # Raspberry Pi 5, and the generation of Jetson Orin's cores: sdot and udot.
    "cortex-a76": Processor(
        features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
        part="0xd0b",
        revision="1",
    ),
}


def emulated_python(cpu: str = "cortex-a76", *, cache: Path | None = None) -> Path:
    """Make the machine where it is missing, and return the program that is its ``python3``.

    ``cpu`` is one of ``PROCESSORS``. ``EmulationError`` says what is missing.
    """
    qemu = shutil.which(QEMU)
    if qemu is None:
        raise EmulationError(f"{QEMU} is not installed: apt-get install qemu-user-static")
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise EmulationError(f"{tool} is missing: the machine is unpacked from Debian's packages")
    folder = _system(cache or _cache())
    root = folder / cpu
    root.mkdir(exist_ok=True)
    for name in ("lib", "usr"):
        if not (root / name).exists():
            (root / name).symlink_to(f"../system/{name}")
    (root / "proc").mkdir(exist_ok=True)
    _write(root / "proc/cpuinfo", _cpuinfo(PROCESSORS[cpu]))
    # Tuned for the processor here, these would be wrong there.
    wrapper = (
        "#!/bin/sh\nunset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE PYTHONHOME PYTHONPATH\n"
        f"exec '{qemu}' -cpu {cpu} -L '{root}' '{root}/usr/bin/python{PYTHON}' \"$@\"\n"
    )
    _write(root / "python3", wrapper, mode=0o755)
    return root / "python3"


def emulated_program(cpu: str = "cortex-a76", *, cache: Path | None = None) -> tuple[list[str], Path]:
    """How a program for that processor is started there, and the onnxruntime that it can open: (words, path).

    Makes the machine as ``emulated_python`` does, with its errors.
    """
    root = emulated_python(cpu, cache=cache).parent
    (library,) = root.glob("usr/lib/python3/dist-packages/onnxruntime/capi/libonnxruntime.so.*")
    return [shutil.which(QEMU) or QEMU, "-cpu", cpu, "-L", str(root)], library


def unpack_debian(
    work: Path, system: Path, *, release: str, architecture: str, packages: Sequence[str]
) -> None:
    """Unpack Debian's ``packages`` into ``system``, fetched with apt-get under a state folder of its own, ``work``."""
    for name in ("lists/partial", "archives/partial"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    keys = f"[signed-by={_KEYRING}] " if _KEYRING.is_file() else ""
    (work / "sources.list").write_text(f"deb {keys}{_mirror()} {release} main\n")
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures::": architecture,
        "Dir::State::Lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache::archives": work / "archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Sandbox::User": "",  # this folder is not for others to read
    }
    apt = ["apt-get", "-qq", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]
    _run([*apt, "update"], f"Debian's list of {architecture} packages cannot be fetched")
    _run(
        [*apt, "download", *packages],
        f"Debian's {architecture} packages cannot be fetched",
        folder=work / "archives",
    )
    for package in sorted((work / "archives").glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(system)], f"{package.name} cannot be unpacked")


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "pocketformer" / "emulation"


def _system(cache: Path) -> Path:
    """The folder with the unpacked ``system``, named after what is in it; it exists whole or not at all."""
    wheels = [f"{name}=={metadata.version(name)}" for name in _WHEELS]
    key = hashlib.sha256("\n".join([str(_LAYOUT), RELEASE, *_DEBIAN, *wheels]).encode()).hexdigest()[:12]
    folder = cache / f"aarch64-{key}"
    if (folder / "system").is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=cache))
    try:
        unpack_debian(work / "apt", work / "system", release=RELEASE, architecture="arm64", packages=_DEBIAN)
        _unpack_wheels(wheels, work / "wheels", work / "system/usr/lib/python3/dist-packages")
        folder.mkdir(exist_ok=True)
        try:
            (work / "system").rename(folder / "system")
        except OSError:
            if not (folder / "system").is_dir():  # somebody else was faster
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _mirror() -> str:
    """The Debian mirror that this machine uses itself."""
    form = "$(ORIGIN) $(COMPONENT) $(LABEL) $(REPO_URI)"
    told = _run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"], "apt-get names no mirror"
    )
    for line in told.splitlines():
        words = line.split()
        if words[:3] == ["Debian", "main", "Debian"]:
            return words[-1]
    raise EmulationError("apt-get has no mirror of Debian configured, or `apt-get update` was never run")


def _unpack_wheels(wheels: Sequence[str], work: Path, site: Path) -> None:
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += [
        *platforms,
        "--python-version",
        PYTHON,
        "--implementation",
        "cp",
        "--dest",
        str(work),
        *wheels,
    ]
    _run(command, f"the aarch64 wheels of {', '.join(wheels)} cannot be fetched")
    for wheel in sorted(work.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


def _cpuinfo(processor: Processor) -> str:
    entry = (
        f"BogoMIPS\t: 108.00\nFeatures\t: {processor.features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x4\nCPU part\t: {processor.part}\nCPU revision\t: {processor.revision}\n\n"
    )
    return "".join(f"processor\t: {number}\n{entry}" for number in range(os.cpu_count() or 1))


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write whole or not at all, and nothing when it is there: another process may be reading it."""
    if path.is_file() and path.read_text() == text:
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.chmod(mode)
    partial.replace(path)


def _run(command: Sequence[str], failure: str, *, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(
            list(command), cwd=folder, capture_output=True, text=True, check=False, timeout=600
        )
    except subprocess.TimeoutExpired as error:
        raise EmulationError(f"{failure}: no answer within {error.timeout:g} s") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise EmulationError(f"{failure}: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make an emulated ARM64 machine and print its python3.")
    parser.add_argument("--cpu", choices=sorted(PROCESSORS), default="cortex-a76")
    try:
        print(emulated_python(parser.parse_args().cpu))
    except EmulationError as error:
        sys.exit(f"{parser.prog}: {error}")
