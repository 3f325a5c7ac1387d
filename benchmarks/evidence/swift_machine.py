"""Swift for the iOS package: Debian's, unpacked into a folder that stays apart, and started there.

    PYTHONPATH=benchmarks python -m evidence.swift_machine    makes it and prints Swift's version

550 MB come over the wire and 2.5 GB stay in ``$XDG_CACHE_HOME/pocketformer``. Neither rights nor an installed package
are needed: the folder becomes the root of a process in namespaces of its own. This is Linux on x86-64: no SwiftUI, no
iPhone.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from evidence.table import EvidenceError
from evidence.workspace import output_of

RELEASE = "trixie"  # the first with Swift
PACKAGES = ("swiftlang", "libc6-dev", "bash", "coreutils")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MERGED = ("bin", "lib", "lib64", "sbin")  # links into usr, as on every Debian since 2023
_SWIFT = "/usr/libexec/swift"
_LIMIT_S = 1200.0


def swift_root() -> Path:
    """The folder with Swift in it, made where it is missing; ``EvidenceError`` when that fails."""
    missing = [name for name in ("apt-get", "dpkg-deb", "tar", "unshare") if shutil.which(name) is None]
    if missing:
        raise EvidenceError(f"needs {', '.join(missing)}: Swift is unpacked from Debian's packages")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pocketformer"
    root = cache / f"swift-{RELEASE}"
    if not root.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=cache))
        try:
            _unpack(work)
            (work / "root").rename(root)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return root


def run(root: Path, argv: Sequence[str], *, folders: Mapping[str, Path], within: str = "/") -> str:
    """What a program started in ``within`` prints. ``folders`` are shown there under their names, such as ``/app``."""
    mounts = []
    for name, folder in {"/proc": Path("/proc"), "/dev": Path("/dev"), **folders}.items():
        (root / name.strip("/")).mkdir(exist_ok=True)
        mounts.append(f"mount --rbind {shlex.quote(str(folder))} {shlex.quote(f'{root}{name}')}")
    environment = f"HOME=/tmp PATH={_SWIFT}/bin:/usr/bin LD_LIBRARY_PATH={_SWIFT}/lib/swift/linux"
    inside = f"cd {shlex.quote(within)} && exec {shlex.join(argv)}"
    script = f"{' && '.join(mounts)} && exec chroot {shlex.quote(str(root))} /usr/bin/env -i {environment} "
    script += f"/usr/bin/bash -c {shlex.quote(inside)}"
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    return output_of(argv, environment=os.environ, folder=root, limit_s=_LIMIT_S)


def _unpack(work: Path) -> None:
    for name in ("lists/partial", "archives/partial", "root/usr", "root/tmp"):
        (work / name).mkdir(parents=True)
    for name in _MERGED:
        (work / "root/usr" / name).mkdir()
        (work / "root" / name).symlink_to(f"usr/{name}")
    (work / "status").touch()
    (work / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {RELEASE} main\n")
    settings = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work,
        "Dir::Cache::archives": work / "archives",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",  # this folder is not for others to read
        "Debug::NoLocking": "true",
    }
    apt = ["apt-get", "-qq", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]
    for words in (["update"], ["install", "--yes", "--download-only", *PACKAGES]):
        output_of([*apt, *words], environment=os.environ, folder=work, limit_s=_LIMIT_S)
    for package in sorted((work / "archives").glob("*.deb")):
        unpack = (
            f"dpkg-deb --fsys-tarfile {shlex.quote(str(package))} | tar -x -C root --keep-directory-symlink"
        )
        output_of(
            ["bash", "-o", "pipefail", "-c", unpack], environment=os.environ, folder=work, limit_s=_LIMIT_S
        )


def _mirror() -> str:
    """The Debian mirror that this machine uses itself."""
    form = "$(ORIGIN) $(COMPONENT) $(LABEL) $(REPO_URI)"
    argv = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    for line in output_of(argv, environment=os.environ, folder=Path("/")).splitlines():
        words = line.split()
        if words[:3] == ["Debian", "main", "Debian"]:
            return words[-1]
    raise EvidenceError("apt-get has no mirror of Debian configured, or `apt-get update` was never run")


if __name__ == "__main__":
    print(run(swift_root(), ["swiftc", "--version"], folders={}))
