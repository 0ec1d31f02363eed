"""What the pages say of one another, of the options and of the schemes is so."""

import re
import shlex
import subprocess
import sys

import pytest
import yaml

from admin_fairseq import __version__
from admin_fairseq.cli import _parser
from admin_fairseq.fairseq_runs import parse
from admin_fairseq.schemes import SCHEMES

from ..integration.shims import captured, one_thread
from .pages import INCLUDED, PAGES, REASONS, ROOT, blocks, of_language

LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def source(page):
    return ROOT / INCLUDED[page.name] if page.name in INCLUDED else page


def anchors(page):
    """The ids of a page's headings, as the site makes them."""
    text = re.sub(r"```.*?```", "", source(page).read_text(encoding="utf-8"), flags=re.DOTALL)
    plain = (re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", title) for title in HEADING.findall(text))
    kept = (re.sub(r"[^\w\s-]", "", title.lower(), flags=re.ASCII) for title in plain)
    return {re.sub(r"[-\s]+", "-", title).strip("-") for title in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in LINK.findall(text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        other = page.parent / path if path else page
        assert other.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(other), (
                f"{page.name}: {target} not in {sorted(anchors(other))}"
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_number_is_left_to_fill_in(page):
    assert not re.search(r"@[A-Z0-9]+@|TODO|FIXME", source(page).read_text(encoding="utf-8"))


def test_the_wheel_is_called_as_this_version_is():
    for name in ("README.md", "docs/quickstart.md"):
        named = re.findall(r"admin_fairseq-(\S+?)-py3-none-any\.whl", (ROOT / name).read_text())
        assert named == [__version__], name


def test_the_readme_is_short():
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 180


def test_every_page_is_in_the_sites_menu():
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    entries = [entry for section in menu for entries in section.values() for entry in entries]
    named = {e if isinstance(e, str) else e.popitem()[1] for e in entries}  # else TITLE: page
    assert named == {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:]}


@pytest.mark.slow
def test_the_site_is_made_without_a_warning(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")]
    assert len(made) >= len(PAGES) - 1
    loaded = r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"'
    assert not [address for html in made for address in re.findall(loaded, html)]


@pytest.mark.slow
def test_the_page_of_options_is_that_of_the_code():
    """If not, run: python scripts/options_page.py >docs/options.md"""
    script = ROOT / "scripts" / "options_page.py"
    status, made, errors = captured(ROOT, one_thread(), script)
    assert status == 0, errors
    assert (ROOT / "docs" / "options.md").read_text(encoding="utf-8") == made


def test_every_scheme_has_its_section():
    page = ROOT / "docs" / "schemes.md"
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page.read_text(), re.M | re.S))
    for name, scheme in SCHEMES.items():
        section = sections["adaptive" if name.startswith("adaptive") else name]
        assert name in section or name in sections
        for option in scheme.options:
            assert f"--{option.name.replace('_', '-')}" in section


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_not_run_says_why_and_is_valid(page):
    for block in blocks(page):
        if block.reason:
            assert REASONS.search(block.reason), f"{block}: {block.reason}"
    for block in of_language(page, "bash"):
        for words in commands(block.code):
            check(words)


def commands(code):
    """The commands of a block as lists of words, without what a shell does for them."""
    code = re.sub(r"\\\n", " ", code)
    for line in code.splitlines():
        words = shlex.split(line, comments=True)
        for end in (">", "<", "|"):
            words = words[: next((i for i, w in enumerate(words) if w.startswith(end)), None)]
        yield words


def check(words):
    """Parse our commands and fairseq-train's; raises AdminError for what they refuse."""
    if any("$" in word for word in words):
        return  # only a shell knows
    if words[:1] == ["admin-fairseq"]:
        end = words.index("--") if "--" in words else len(words)
        _parser().parse_args(words[1:end])
    if words[:1] == ["fairseq-train"]:
        parse(words[1:])
