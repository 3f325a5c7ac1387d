"""Write what is generated: CLI reference, schemas and tables, the README's demo; --check only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pocketformer.cli.root import VERBS, root
from pocketformer.export.bundle_schema import SCHEMA_FILE as BUNDLE_SCHEMA_FILE
from pocketformer.export.bundle_schema import manifest_schema
from pocketformer.report.schema_document import DOCUMENT_FILE, SCHEMA_FILE, document_with_fields
from pocketformer.report.storage import json_schema

DOCS = Path(__file__).parent


def cli_reference() -> str:
    """Every ``--help`` in one page."""
    sections = ["# Command line\n\nGenerated from `--help` by `make docs`.\n"]
    context = click.Context(root, info_name="pocketformer", max_content_width=100)
    sections.append(_block("pocketformer", root.get_help(context)))
    for verb in VERBS:
        command = root.get_command(context, verb.name)
        if command is None:
            raise SystemExit(f"no command behind the verb {verb.name}")
        child = click.Context(command, info_name=verb.name, parent=context, max_content_width=100)
        sections.append(_block(f"pocketformer {verb.name}", command.get_help(child)))
        if isinstance(command, click.Group):
            for name, sub in command.commands.items():
                grandchild = click.Context(sub, info_name=name, parent=child, max_content_width=100)
                sections.append(_block(f"pocketformer {verb.name} {name}", sub.get_help(grandchild)))
    return "\n".join(sections)


def readme_with_demo(text: str) -> str:
    """The README with what docs/demo/output.txt recorded between its two marks."""
    before, start, rest = text.partition("<!-- demo:start -->")
    _, end, after = rest.partition("<!-- demo:end -->")
    if not start or not end:
        raise SystemExit("README.md lacks the marks of the demo")
    printed = (DOCS / "demo" / "output.txt").read_text(encoding="utf-8").rstrip()
    return f"{before}{start}\n\n```text\n{printed}\n```\n\n{end}{after}"


def _block(title: str, text: str) -> str:
    return f"## {title}\n\n```text\n{text.rstrip()}\n```\n"


def main() -> None:
    """Write, or compare and fail."""
    document = DOCS / DOCUMENT_FILE
    readme = DOCS.parent / "README.md"
    wanted = {
        readme: readme_with_demo(readme.read_text(encoding="utf-8")),
        DOCS / "cli.md": cli_reference(),
        DOCS / SCHEMA_FILE: json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
        DOCS / BUNDLE_SCHEMA_FILE: json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n",
        document: document_with_fields(document.read_text(encoding="utf-8")),
    }
    stale = [p for p, text in wanted.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        if stale:
            raise SystemExit(f"out of date: {', '.join(p.name for p in stale)}; run `make docs`")
        return
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")


if __name__ == "__main__":
    main()
