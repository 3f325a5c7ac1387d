"""The Android module on this computer's Java virtual machine: JNI by gcc, Kotlin by npm's copy of its compiler.

What needs Android's SDK is compiled against stand-ins of its classes (tests/hosts/mobile/stand_ins); nothing here is
Gradle, the NDK or a phone.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evidence.table import EvidenceError
from evidence.workspace import output_of

KOTLIN = "2.4.20"
TESTS = Path(__file__).parents[2] / "tests/hosts/mobile"
# Debian's junit4 puts them there.
JUNIT = tuple(Path("/usr/share/java", name) for name in ("junit4.jar", "hamcrest-core.jar"))
_CPP = "pocketformer/src/main/cpp"
_LIMIT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class KotlinHost:
    """The module of an app that was written, compiled: ``classes`` and the folder with its JNI library."""

    app: Path
    classes: Path
    natives: Path

    def command(self, main: str, *, options: Sequence[str] = ()) -> list[str]:
        """How a class with a ``main`` is started."""
        path = os.pathsep.join(map(str, [self.classes, _standard_library(), *JUNIT]))
        return ["java", f"-Djava.library.path={self.natives}", *options, "-cp", path, main]


def find_tools() -> None:
    """Fetch Kotlin's compiler where it is not yet; ``EvidenceError`` when it or another tool cannot be had."""
    missing = [name for name in ("cmake", "gcc", "java", "javac", "npm") if shutil.which(name) is None]
    missing += [str(jar) for jar in JUNIT if not jar.is_file()]
    if missing:
        raise EvidenceError(
            f"needs {', '.join(missing)}: apt-get install cmake default-jdk-headless gcc junit4 libc6-dev npm"
        )
    kotlin_compiler()


def build(app: Path, folder: Path) -> KotlinHost:
    """Compile the Android ``app`` into ``folder``; warnings are errors. ``EvidenceError`` when that fails."""
    natives, classes = folder / "natives", folder / "classes"
    build_jni(app, natives)
    sources = [*sorted(app.rglob("*.kt")), TESTS / "Replay.kt", *sorted((TESTS / "stand_ins").glob("*.kt"))]
    compiler = kotlin_compiler()
    path = os.pathsep.join(map(str, [_standard_library(), *JUNIT]))
    # Small programs are compiled sooner without the virtual machine's second compiler.
    java = ["java", "-Xmx600m", "-XX:TieredStopAtLevel=1", "-cp", str(compiler / "*")]
    argv = [*java, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-stdlib", "-no-reflect", "-Werror"]
    argv += ["-jvm-target", "11", "-cp", path, "-d", str(classes), *map(str, sources)]
    _run(argv, folder)
    return KotlinHost(app=app, classes=classes, natives=natives)


def build_jni(app: Path, folder: Path, *, compiler: str = "gcc") -> Path:
    """Build the app's JNI library with CMake, by ``compiler`` in place of the NDK's; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    headers = java_home() / "include"
    definitions = {
        "CMAKE_C_COMPILER": compiler,
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_C_FLAGS": "-Werror",
        "JNI_INCLUDE": f"{headers};{headers / 'linux'}",
    }
    if compiler != "gcc":
        definitions["CMAKE_SYSTEM_NAME"] = "Linux"  # for another processor
    words = [f"-D{name}={value}" for name, value in definitions.items()]
    _run(["cmake", "-S", str(app / _CPP), "-B", str(folder), *words], folder)
    _run(["cmake", "--build", str(folder)], folder)
    return folder / "libpocketformer_jni.so"


def java_home() -> Path:
    """The installed JDK."""
    javac = shutil.which("javac")
    if javac is None:
        raise EvidenceError("javac is not installed: apt-get install default-jdk-headless")
    return Path(javac).resolve().parents[1]


def kotlin_compiler() -> Path:
    """The folder with the compiler's jars, fetched once by npm."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pocketformer"
    folder = cache / f"kotlin-{KOTLIN}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=cache))
        try:
            _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(partial),
                  f"kotlin-compiler@{KOTLIN}"], partial)  # fmt: skip
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder / "node_modules/kotlin-compiler/lib"


def write_units(texts: Sequence[str], file: Path) -> None:
    """Texts for Replay.kt: a line of UTF-16 units in hexadecimal each, so that half a surrogate pair can be there."""
    file.write_text("".join(f"{text.encode('utf-16-be', 'surrogatepass').hex()}\n" for text in texts))


def _standard_library() -> Path:
    return kotlin_compiler() / "kotlin-stdlib.jar"


def _run(argv: Sequence[str], folder: Path) -> None:
    output_of(argv, environment=os.environ, folder=folder, limit_s=_LIMIT_S)
