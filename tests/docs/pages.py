"""The pages of the documentation, README among them, and the blocks of code in them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
INCLUDED = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages of the site that are files of the repository."""

FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
REASONS = re.compile(
    r"needs (a GPU|a cluster|the network|the published archives|a checkpoint of the release)|"
    r"takes (minutes|hours)|changes the shell|the tests run its steps"
)


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    code: str
    reason: str  # why it is not run; empty if it is

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start("code")),
            match["language"],
            match["code"],
            match["reason"] or "",
        )
        for match in FENCE.finditer(text)
    ]


def of_language(page, language):
    return [block for block in blocks(page) if block.language == language]
