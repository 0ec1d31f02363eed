import base64
from html.parser import HTMLParser

from admin_fairseq.analysis.page import Section, page

NASTY = """<b> & "quoted" 'it' </td></pre><script>"""
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><text>\xce\xb2</text></svg>\n'
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """The page's elements as (tag, attributes, text right in it), in order of their ends."""

    def __init__(self, text):
        super().__init__()
        self.declaration, self.open, self.elements = None, [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_decl(self, declaration):
        self.declaration = declaration

    def handle_starttag(self, tag, attributes):
        element = (tag, dict(attributes), [])
        (self.elements if tag in VOID else self.open).append(element)

    def handle_data(self, data):
        if self.open:
            self.open[-1][2].append(data)

    def handle_endtag(self, tag):
        assert self.open[-1][0] == tag  # balanced
        self.elements.append(self.open.pop())

    def texts(self, *tags):
        return ["".join(text) for tag, _, text in self.elements if tag in tags]

    def attributes(self, *names):
        return [have[name] for _, have, _ in self.elements for name in names if name in have]


def section(title="dependency", **options):
    return Section(title, "admin-fairseq analyze a.pt", **options)


def full(text):
    return Section(text, text, [text, "second"], [(text, SVG)])


def test_everything_is_escaped():
    reader = Reader(page(NASTY, {NASTY: NASTY}, [full(NASTY)]))
    shown = reader.texts("title", "h1", "th", "td", "a", "h2", "code", "li", "figcaption")
    assert [text for text in shown if text not in ("", "second")] == [
        *[NASTY] * 5,  # title, heading, fact and contents
        f"1. {NASTY}",
        *[NASTY] * 3,  # command, reading, caption
    ]
    assert reader.attributes("alt") == [NASTY]
    assert not reader.texts("script", "b")


def test_the_page_needs_nothing_else():
    text = page("report", {"torch": "2"}, [full("a"), full("b")])
    reader = Reader(text)
    sources = reader.attributes("src", "href")
    assert len(sources) == 4
    assert all(source.startswith(("#", "data:image/svg+xml;base64,")) for source in sources)
    assert not any(word in text for word in ("http", "url(", "@import", "<script", "<link"))


def test_pictures_are_in_it_byte_for_byte():
    pictures = [("first", SVG), ("second", bytes(range(256)))]
    reader = Reader(page("report", {}, [section(pictures=pictures)]))
    codes = [source.split(",", 1)[1] for source in reader.attributes("src")]
    assert [base64.b64decode(code, validate=True) for code in codes] == [svg for _, svg in pictures]
    assert reader.attributes("alt") == reader.texts("figcaption") == ["first", "second"]


def test_contents_lead_to_the_sections():
    reader = Reader(page("report", {}, [section("same"), section("same"), section("other")]))
    links = [link[1:] for link in reader.attributes("href")]
    assert links == reader.attributes("id") and len(set(links)) == 3
    assert reader.texts("a") == ["same", "same", "other"]
    assert reader.texts("h2") == ["1. same", "2. same", "3. other"]


def test_language_and_letters_are_told():
    text = page("β", {}, [])
    reader = Reader(text)
    assert reader.declaration == "DOCTYPE html" and reader.attributes("lang") == ["en"]
    assert reader.attributes("charset") == ["utf-8"] and "<h1>β</h1>" in text


def test_facts_are_a_table():
    reader = Reader(page("report", {"seed": "7", "torch": "2"}, [section()]))
    assert reader.texts("th") == ["seed", "torch"] and reader.texts("td") == ["7", "2"]


def test_what_is_not_there_leaves_nothing_behind():
    reader = Reader(page("report", {}, [section()]))
    assert not reader.texts("table", "ul", "figure")


def test_text_that_steers_a_terminal_or_does_not_encode_is_shown_by_escapes():
    text = page("\ud800", {"\x1b": "\u202e"}, [section("\0")])
    text.encode()
    assert all(f"\\{escape}" in text for escape in ("ud800", "x1b", "u202e", "x00"))
