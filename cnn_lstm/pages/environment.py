"""The templates of a room together with the parts that all pages share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jinja2


@dataclass(frozen=True)
class Plot:
    """A plot with its texts.

    Attributes:
        title: Heading.
        caption: How to read it.
        alt: What it shows, for a reader who cannot see it.
        uri: The plot itself as a data address.
    """

    title: str
    caption: str
    alt: str
    uri: str


def page_environment(folder: Path) -> jinja2.Environment:
    """An environment for the templates of a folder, which may include `style.css` and import `parts.html.jinja`.

    Text from outside is escaped, and a name that the template misses is an error.

    Args:
        folder: Where the templates lie.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,  # names of symbols, targets and columns come from data
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
