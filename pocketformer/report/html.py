"""report.html: one file that needs nothing else. No script, no request, light and dark, ready to print."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import yaml

from pocketformer.report import content, figures, verdict, wording
from pocketformer.report.bound_rows import HEADER, bound_rows, roof_sentence
from pocketformer.report.gpu_facts import gpu_facts
from pocketformer.report.schema import Report
from pocketformer.report.side_by_side import side_by_side
from pocketformer.runtime.errors import MissingDependencyError

if TYPE_CHECKING:
    from jinja2 import Environment


def render_html(report: Report) -> str:
    """The whole page. Every text of the user's is escaped; ``MissingDependencyError`` without jinja2."""
    template = _environment().get_template("report.html.j2")
    device = content.primary_device(report)
    values = report.model_dump(mode="json", include={"recipe"})["recipe"]
    recipe = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return template.render(
        report=report,
        device=device,
        content=content,
        figures=figures,
        bound_header=HEADER,
        bound_rows=bound_rows,
        gpu_facts=gpu_facts,
        roof_sentence=roof_sentence,
        together=side_by_side(report),
        verdict=verdict,
        wording=wording,
        recipe=wording.several_lines(recipe),
    )


@cache
def _environment() -> Environment:
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError as error:
        raise MissingDependencyError(
            "report.html needs jinja2, which is not installed",
            hint="pip install 'pocketformer[compress]'; the terminal and Markdown reports work without it.",
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pocketformer.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Figures escape what they write; everything else is escaped by jinja2.
    environment.filters["picture"] = lambda svg: Markup("" if svg is None else svg)
    environment.filters["clean"] = wording.one_line
    return environment
