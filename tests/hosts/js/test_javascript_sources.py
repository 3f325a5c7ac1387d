"""What the sources promise beside behaviour: types that a compiler believes, the tables of C, pinned packages."""

from __future__ import annotations

import json
from pathlib import Path

from hosts.js.conftest import run
from hosts.js.unicode_tables import SOURCE, TABLES, read_tables, render

HOSTS = SOURCE.parents[2]
RIGHT = """
import { formatCheck, load, verify, type Prediction } from "./pocketformer/index.mjs";
const model = await load("model/", { threads: 1 });
const [answer]: Prediction[] = await model.predict(["a text"]);
const label: string = answer?.label ?? "";
const report = await verify(new URL("file:///model/"), { key: "pem", onCheck: (check) => formatCheck(check) });
const lines: string[] = report.checks.map(formatCheck);
export { label, lines };
"""
WRONG = 'import { load } from "./pocketformer/index.mjs";\nexport const model = await load("model/", { threds: 1 });\n'


def test_typescript_takes_right_code_and_refuses_wrong(node_app: Path, node_modules: Path) -> None:
    options = [
        "--noEmit",
        "--strict",
        "--module",
        "nodenext",
        "--target",
        "es2022",
        "--lib",
        "es2022,dom",
        "--types",
        "",
    ]
    compiler = ["node", str(node_modules / "typescript/bin/tsc"), *options]
    for name, text in (("right.mts", RIGHT), ("wrong.mts", WRONG)):
        (node_app / name).write_text(text, encoding="utf-8")
    run([*compiler, "right.mts"], cwd=node_app)
    assert "threds" in run(["bash", "-c", '"$@" || [ $? -ne 0 ]', "-", *compiler, "wrong.mts"], cwd=node_app)


def test_the_tables_are_those_of_c() -> None:
    assert TABLES.read_text(encoding="utf-8") == render(read_tables(SOURCE.read_text(encoding="utf-8")))


def test_packages_are_pinned_and_the_same_in_both_apps() -> None:
    web, node = (
        json.loads((HOSTS / host / "package.json").read_text(encoding="utf-8")) for host in ("web", "node")
    )
    versions = node["dependencies"] | node["optionalDependencies"]
    assert web["dependencies"] == node["dependencies"]
    assert all(part.isdecimal() for version in versions.values() for part in version.split("."))
