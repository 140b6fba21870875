"""Pages of a release: one template engine, one stylesheet, nothing from elsewhere.

A page is one file that works from disk: style and script are inside it, and its content security policy forbids
everything else. Belongs here: rendering a template. Does not: what a page says.
"""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.release import PROVENANCE_IN_WORDS, TITLE

if TYPE_CHECKING:
    import jinja2

HERE = Path(__file__).parent


def environment(*folders: Path) -> "jinja2.Environment":
    """Templates of these folders, and `base.html.jinja`; every text that they show is escaped, and a name that
    was not given is an error.
    """  # fmt: skip
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, HERE / "templates"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: "jinja2.Template", release: Mapping[str, Any], script: str = "", **context: Any) -> str:
    """A page that extends `base.html.jinja`.

    `release` is the row of marts.release_info; the base shows its release_id, published_at and provenance. `script`
    is the only script that the page can run; markup in the data is none.
    """
    from markupsafe import Markup

    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        *([f"script-src 'sha256-{digest}'"] if script else []),
    ]
    return template.render(
        title=TITLE,
        release_id=release["release_id"],
        published_at=f"{release['published_at']:%-d %B %Y, %H:%M} UTC",
        provenance=release["provenance"],
        provenance_in_words=PROVENANCE_IN_WORDS[release["provenance"]],
        content_security_policy="; ".join(policy),
        stylesheet=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        **context,
    )
