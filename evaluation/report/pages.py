"""What every page shares: its templates, its style, and what a browser is allowed to do with it."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("heed.evaluation.report", "templates"),
    autoescape=True,  # instructions come from anybody's environment
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_page(path: Path, template: str, *, script: str | None = None, **content: Any) -> Path:
    """Fill in a template and write it.

    Args:
        path: of the page.
        template: in `scripts/templates`.
        script: the JavaScript in `scripts/templates` that the page runs, if it runs any.
        content: of the template.

    Returns:
        `path`.
    """
    code = None if script is None else Markup(_source(script))
    page = _ENVIRONMENT.get_template(template).render(
        style=Markup(_source("style.css")), script=code, policy=security_policy(code), **content
    )
    path.write_text(page.lstrip(), encoding="utf-8")
    return path


def security_policy(script: str | None) -> str:
    """Return a Content-Security-Policy: nothing is fetched from anywhere, and no script runs but this one.

    So even what an escape had missed could not run, nor tell anybody of the page.
    """
    allowed = "'none'"
    if script is not None:
        allowed = f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    rules = ("default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", f"script-src {allowed}")
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def thousands(number: float) -> str:
    """Return a number with its digits in groups of three: "150 000"."""
    return f"{number:,.0f}".replace(",", " ")


def _source(name: str) -> str:
    assert _ENVIRONMENT.loader is not None
    return _ENVIRONMENT.loader.get_source(_ENVIRONMENT, name)[0]
