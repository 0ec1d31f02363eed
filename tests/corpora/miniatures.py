"""Tiny data sets in the exact layout and markup of the published archives.

``make(dataset, folder)`` writes the archives that that data set wants, with sentences of
made-up words and everything in them that the published rules treat: markup and lines about talks,
quotes and dashes of all kinds, characters that cannot be printed, pairs that are empty, too long
or too unequal, and members of other languages that nobody asks for.
"""

import gzip
import io
import random
import tarfile
from pathlib import Path

WORDS = {
    language: text.split()
    for language, text in {
        "en": "the a house tree river man woman runs sees sings old green quickly under over",
        "de": "der eine Haus Baum Fluss Mann Frau läuft sieht singt alt grün schnell unter über",
        "fr": "le une maison arbre fleuve homme femme court voit chante vieux vert vite sous sur",
    }.items()
}
ODDITIES = [
    "well-known", "„so“", "“quoted”", "it’s", "l'eau", "« oui »", "1 000", "3.5", "e.g.", "Mr.",
    "R&D", "[x]", "a|b", "<b>", "ΟΔΟΣ", "zero\u200bwidth", "line\u2028break", "tab\there",
    "carriage\rreturn", "–", "…", "100 %", "(so )", "x ; y", "I.", "etc.,", "non\u00a0breaking",
]  # fmt: skip


def sentences(count, languages, seed):
    """``count`` pairs: word for word, an oddity now and then, some pairs that cleaning drops."""
    choose = random.Random(seed)
    for number in range(count):
        picked = [choose.randrange(len(WORDS["en"])) for _ in range(choose.randint(3, 9))]
        pair = [[WORDS[language][i] for i in picked] for language in languages]
        if number % 3 == 0:
            oddity, place = choose.choice(ODDITIES), choose.randrange(3)
            for words in pair:
                words.insert(place, oddity)
        for words in pair:
            words[0] = words[0].capitalize()
            words[-1] += choose.choice([".", "!", "?", " .", ""])
        lines = [" ".join(words) for words in pair]
        yield tuple(_spoilt(lines, number))


def _spoilt(lines, number):
    """Every 17th pair is one of those that some rule drops, or keeps by a hair; WMT17's 300th,
    which goes to its validation data, is dropped there."""
    if number % 17 != 8:
        return lines
    kinds = [
        ("", lines[1]),
        (lines[0], "   "),
        (" ".join(["lang"] * 80), " ".join(["long"] * 80)),
        (lines[0], " ".join(["word"] * 90)),  # too long for WMT14 En-De, too unequal elsewhere
        (" ".join(["lang"] * 81), " ".join(["long"] * 81)),
        (" ".join(["lang"] * 175), " ".join(["long"] * 175)),
        (" ".join(["lang"] * 176), " ".join(["long"] * 176)),
        ("eins zwei", "one two three"),  # a ratio of exactly 1.5
        ("eins zwei", "one two three four"),
        ("x" * 1000, "y"),
        ("x" * 1001, "y"),
        ("wort", "one two three four five six seven eight nine"),  # a ratio of exactly 9
        ("wort", "one two three four five six seven eight nine ten"),
    ]
    return kinds[number // 17 % len(kinds)]


def _text(lines):
    return "".join(f"{line}\n" for line in lines).encode()


def _sides(count, languages, seed):
    """Language → lines."""
    return dict(zip(languages, zip(*sentences(count, languages, seed))))


def _sound(count, languages, seed):
    """Language → lines of a test set: none is empty or monstrous, one has what its rules treat."""
    made = sentences(count, languages, seed)
    kept = [pair for pair in made if all(0 < len(line.strip()) < 500 for line in pair)]
    kept.append(("It’s “well-known” R&amp;D.",) * 2)
    return dict(zip(languages, zip(*kept)))


def _archive(path, members):
    """Write a .tar or .tgz of {name: bytes}; folders have entries too, as in the real ones."""
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for folder in sorted({name.split("/")[0] for name in members if "/" in name}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def _talks(lines, language):
    """IWSLT's training text: before each talk, lines about it."""
    out = []
    for number, start in enumerate(range(0, len(lines), 25)):
        out += [
            f"<url>http://www.ted.com/talks/lang/{language}/talk_{number}.html</url>",
            "<keywords>talks, science, oceans</keywords>",
            f"<speaker>Speaker {number}</speaker>",
            f"<talkid>{100 + number}</talkid>",
            f"<title>Speaker {number}: About {number} things</title>",
            f"<description>In talk {number} - a talk - we hear “things”.</description>",
            *lines[start : start + 25],
        ]
    return _text(out)


def _iwslt_xml(lines, language, name):
    kind = "refset" if language == "en" else "srcset"
    segments = [f'<seg id="{i}"> {line} </seg>' for i, line in enumerate(lines, 1)]
    return _text(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            "<mteval>",
            f'<{kind} setid="iwslt2014-{name}" srclang="german" trglang="{language}">',
            '<doc docid="535" genre="lectures">',
            "<url>http://www.ted.com/talks/535</url>",
            "<talkid>535</talkid>",
            "<title>A title that is no sentence</title>",
            *segments,
            "</doc>",
            f"</{kind}>",
            "</mteval>",
        ]
    )


def _sgml(lines, kind, language):
    out = [f'<{kind}set setid="newstest2014" srclang="any" trglang="{language}">']
    for number, start in enumerate(range(0, len(lines), 10)):
        out += [f'<doc sysid="{kind}" docid="paper.{number}" genre="news" origlang="de">', "<p>"]
        out += [f'<seg id="{i}">{s}</seg>' for i, s in enumerate(lines[start : start + 10], 1)]
        out += ["</p>", "</doc>"]
    return _text([*out, f"</{kind}set>"])


def iwslt14(folder, pairs=150):
    languages = ("de", "en")
    members = {"de-en/README": b"About the talks.\n"}
    for language, lines in _sides(pairs, languages, seed=1).items():
        members[f"de-en/train.tags.de-en.{language}"] = _talks(lines, language)
        members[f"de-en/train.en.{language}"] = b"not asked for\n"
    names = ["TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012"]
    for seed, name in enumerate([*names, "TEDX.tst2013"]):
        for language, lines in _sound(4, languages, seed=10 + seed).items():
            member = f"de-en/IWSLT14.{name}.de-en.{language}.xml"
            members[member] = _iwslt_xml(lines, language, name)
    _archive(folder / "de-en.tgz", members)


def _parallel(folder, archive, name, languages, pairs, seed, other="cs-en"):
    """An archive of plain text, with a member of another language pair before it."""
    start, _, pair = name.rpartition(".")
    members = {f"{start}.{other}.en": b"not asked for\n"} if pair == f"{languages[1]}-en" else {}
    for language, lines in _sides(pairs, languages, seed).items():
        members[f"{name}.{language}"] = _text(lines)
    _archive(folder / archive, members)


def _newstest2014(folder, pair, languages, count=12):
    lines = _sound(count, languages, seed=40)
    _archive(
        folder / "test-full.tgz",
        {
            "test-full/newstest2014-csen-src.en.sgm": b"not asked for\n",
            f"test-full/newstest2014-{pair}-src.{languages[0]}.sgm": _sgml(
                lines[languages[0]], "src", languages[0]
            ),
            f"test-full/newstest2014-{pair}-ref.{languages[1]}.sgm": _sgml(
                lines[languages[1]], "ref", languages[1]
            ),
        },
    )


def wmt_en_de(folder, pairs=120):
    languages = ("en", "de")
    for seed, (archive, name) in enumerate(
        [
            ("training-parallel-europarl-v7.tgz", "training/europarl-v7.de-en"),
            ("training-parallel-commoncrawl.tgz", "commoncrawl.de-en"),
            ("training-parallel-nc-v12.tgz", "training/news-commentary-v12.de-en"),
        ]
    ):
        _parallel(folder, archive, name, languages, pairs, seed=20 + seed)
    dev = _sound(10, languages, seed=30)
    _archive(folder / "dev.tgz", {f"dev/newstest2013.{name}": _text(s) for name, s in dev.items()})
    _newstest2014(folder, "deen", languages)


def wmt_en_fr(folder, pairs=700):
    languages = ("en", "fr")
    for seed, (archive, name, count) in enumerate(
        [
            ("training-parallel-europarl-v7.tgz", "training/europarl-v7.fr-en", pairs),
            ("training-parallel-commoncrawl.tgz", "commoncrawl.fr-en", pairs),
            ("training-parallel-un.tgz", "un/undoc.2000.fr-en", 20),
            ("training-parallel-nc-v9.tgz", "training/news-commentary-v9.fr-en", 20),
        ]
    ):
        _parallel(folder, archive, name, languages, count, seed=50 + seed)
    giga = _sides(30, languages, seed=60)
    members = {
        f"giga-fren.release2.fixed.{language}.gz": gzip.compress(_text(lines))
        for language, lines in giga.items()
    }
    _archive(folder / "training-giga-fren.tar", members)
    _newstest2014(folder, "fren", languages)


MAKERS = {
    "iwslt14_de_en": iwslt14,
    "wmt14_en_de": wmt_en_de,
    "wmt14_en_fr": wmt_en_fr,
    "wmt17_en_de": wmt_en_de,
}


def make(dataset: str, folder: Path) -> Path:
    """Write the archives of ``dataset`` to ``folder`` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    MAKERS[dataset](folder)
    return folder
