"""Make one self-contained HTML page of a report: no network, scripts or other files."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Iterable, Mapping, Sequence

from admin_fairseq.formats import as_html

STYLE = """\
:root { color-scheme: light; }
body { max-width: 1100px; margin: 0 auto; padding: 1rem 1.5rem 4rem; background: #fff;
  color: #222; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; }
h2 { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid #ccc; font-size: 1.35rem; }
a { color: #0072b2; }
pre { padding: 0.6rem 0.8rem; white-space: pre-wrap; background: #f5f5f5; font-size: 0.85rem; }
figure { margin: 1.5rem 0; }
figcaption { color: #555; font-size: 0.9rem; }
img { display: block; max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.8rem; border-bottom: 1px solid #ddd; text-align: left; }
th[scope="row"] { font-weight: 600; white-space: nowrap; vertical-align: top; }
"""


@dataclass
class Section:
    """A section of the page: the findings and pictures of one study.

    ``command`` is the shell command that makes this section alone; ``reading`` has one finding per
    line; ``pictures`` are captions with the content of SVG files.
    """

    title: str
    command: str
    reading: Sequence[str] = ()
    pictures: Sequence[tuple[str, bytes]] = ()


def page(title: str, facts: Mapping[str, str], sections: Sequence[Section]) -> str:
    """Return the whole page as HTML, with a table of contents.

    ``facts`` say what the report was made with (versions, data, seeds).
    """
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{as_html(title)}</title>
<style>
{STYLE}</style>
</head>
<body>
<h1>{as_html(title)}</h1>
{_facts(facts)}
{_contents(sections)}
{_lines(_section(number, section) for number, section in enumerate(sections, 1))}
</body>
</html>
"""


def _lines(texts: Iterable[str]) -> str:
    """Join the texts with line breaks, without those that are empty."""
    return "\n".join(filter(None, texts))


def _facts(facts: Mapping[str, str]) -> str:
    """Return the facts as an HTML table; empty if there are none."""
    rows = [
        f'<tr><th scope="row">{as_html(name)}</th><td>{as_html(value)}</td></tr>'
        for name, value in facts.items()
    ]
    return _lines(["<table>", *rows, "</table>"]) if rows else ""


def _contents(sections: Sequence[Section]) -> str:
    """Return the table of contents as HTML, with links to the sections."""
    entries = [
        f'<li><a href="#{_anchor(number)}">{as_html(section.title)}</a></li>'
        for number, section in enumerate(sections, 1)
    ]
    return _lines(['<nav aria-label="Contents">', "<ol>", *entries, "</ol>", "</nav>"])


def _anchor(number: int) -> str:
    """Return the HTML id of a section, to which links of the contents point."""
    return f"section-{number}"


def _section(number: int, section: Section) -> str:
    """Return one numbered section as HTML."""
    return _lines(
        [
            f'<section id="{_anchor(number)}">',
            f"<h2>{number}. {as_html(section.title)}</h2>",
            f"<pre><code>{as_html(section.command)}</code></pre>",
            _reading(section.reading),
            *(_figure(caption, svg) for caption, svg in section.pictures),
            "</section>",
        ]
    )


def _reading(lines: Sequence[str]) -> str:
    """Return the findings as an HTML list; empty if there are none."""
    items = [f"<li>{as_html(line)}</li>" for line in lines]
    return _lines(["<ul>", *items, "</ul>"]) if items else ""


def _figure(caption: str, svg: bytes) -> str:
    """Return a picture as an HTML figure that contains the SVG file."""
    text, source = as_html(caption), f"data:image/svg+xml;base64,{b64encode(svg).decode()}"
    return (
        f'<figure>\n<img src="{source}" alt="{text}">\n<figcaption>{text}</figcaption>\n</figure>'
    )
