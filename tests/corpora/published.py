"""The published preparation, computed a second time: whole files in memory, the published shell
commands where they are shell commands (grep, sed, awk), Moses' cleaning spelt out, sacremoses and
subword-nmt called directly. Slow and plain, to be held against the package line by line.
"""

import io
import re
import subprocess
import tarfile
from gzip import decompress

import regex
from sacremoses import MosesPunctNormalizer, MosesTokenizer
from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe

EUROPARL = ("training-parallel-europarl-v7.tgz", "training/europarl-v7.{pair}.{l}")
COMMON_CRAWL = ("training-parallel-commoncrawl.tgz", "commoncrawl.{pair}.{l}")
NEWS = ("training-parallel-nc-v{n}.tgz", "training/news-commentary-v{n}.{pair}.{l}")
UN = ("training-parallel-un.tgz", "un/undoc.2000.{pair}.{l}")
GIGA = ("training-giga-fren.tar", "giga-fren.release2.fixed.{l}.gz")


def member(raw, archive, name):
    with tarfile.open(raw / archive) as tar:
        content = tar.extractfile(name).read()
    return decompress(content) if name.endswith(".gz") else content


def shell(command, text):
    done = subprocess.run(["bash", "-c", command], input=text, capture_output=True)
    return done.stdout


def lines(content):
    return content.decode().split("\n")[:-1]


def clean(source, target, ratio, low, high):
    kept = [], []
    for f, e in zip(source, target):
        f, e = (re.sub(" $", "", re.sub("^ ", "", re.sub(r"\s+", " ", s))) for s in (f, e))
        if f == "" or e == "":
            continue
        fc, ec = len(f.split(" ")), len(e.split(" "))
        if ec > high or fc > high or ec < low or fc < low:
            continue
        if ec / fc > ratio or fc / ec > ratio:
            continue
        if re.search(r"[^\s|]{1001}", f) or re.search(r"[^\s|]{1001}", e):
            continue
        kept[0].append(f)
        kept[1].append(e)
    return kept


def every(n, texts, drawn):
    test = "==" if drawn else "!="
    joined = ["".join(f"{line}\n" for line in text).encode() for text in texts]
    return [lines(shell(f"awk '{{if (NR%{n} {test} 0) print $0; }}'", text)) for text in joined]


def segments(content):
    text = shell(
        """grep '<seg id' | sed -e 's/<seg id="[0-9]*">\\s*//g' | sed -e 's/\\s*<\\/seg>\\s*//g'""",
        content,
    )
    return lines(text), lines(shell('sed -e "s/’/\\\'/g"', text))


def tokenised(text, language, aggressive):
    moses = MosesTokenizer(language)
    return [moses.tokenize(s, aggressive_dash_splits=aggressive, return_str=True) for s in text]


def lower(text):
    """Perl's lc takes each letter by itself; Python's lower has a sigma for ends of words."""
    return ["".join(letter.lower() for letter in line) for line in text]


def corpus_text(content, language):
    """normalize-punctuation | remove-non-printing-char | tokenizer -a"""
    moses = MosesPunctNormalizer(language, perl_parity=True)
    normal = [regex.sub(r"\p{C}", " ", moses.normalize(line)) for line in lines(content)]
    return tokenised(normal, language, aggressive=True)


def pieces(split, merges):
    codes = io.StringIO()
    learn_bpe(
        io.StringIO("".join(f"{s}\n" for side in split["train"] for s in side)), codes, merges
    )
    bpe = BPE(codes)
    return {
        name: [[bpe.process_line(s) for s in side] for side in both] for name, both in split.items()
    }


def iwslt14(raw, merges):
    train, test, plain = [], [], []
    for language in ("de", "en"):
        content = member(raw, "de-en.tgz", f"de-en/train.tags.de-en.{language}")
        text = shell(
            "grep -v '<url>' | grep -v '<talkid>' | grep -v '<keywords>' | sed -e 's/<title>//g' "
            "| sed -e 's/<\\/title>//g' | sed -e 's/<description>//g' "
            "| sed -e 's/<\\/description>//g'",
            content,
        )
        train.append(tokenised(lines(text), language, aggressive=False))
        test.append([])
        plain.append([])
        for talks in ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012"):
            name = f"de-en/IWSLT14.{talks}.de-en.{language}.xml"
            raw_text, text = segments(member(raw, "de-en.tgz", name))
            plain[-1] += raw_text
            test[-1] += lower(tokenised(text, language, aggressive=False))
    low = [lower(side) for side in clean(*train, 1.5, 1, 175)]
    split = {"train": every(23, low, False), "valid": every(23, low, True), "test": test}
    return pieces(split, merges), test, plain


def wmt(raw, merges, languages, corpora, test_pair, n=None):
    pair = f"{'fr' if 'fr' in languages else 'de'}-en"
    train, test, plain, dev = [], [], [], []
    for language, kind in zip(languages, ("src", "ref")):
        train.append([])
        for archive, name in corpora:
            content = member(raw, archive, name.format(pair=pair, l=language))
            train[-1] += corpus_text(content, language)
        name = f"test-full/newstest2014-{test_pair}-{kind}.{language}.sgm"
        raw_text, text = segments(member(raw, "test-full.tgz", name))
        plain.append(raw_text)
        test.append(tokenised(text, language, aggressive=True))
        if n is None:
            dev.append(
                corpus_text(member(raw, "dev.tgz", f"dev/newstest2013.{language}"), language)
            )
    if n is None:  # the Admin release's WMT14 En-De: cleaned before BPE, newstest2013
        split = {"train": clean(*train, 9, 1, 80), "valid": dev, "test": test}
        return pieces(split, merges), test, plain
    split = {"train": every(n, train, False), "valid": every(n, train, True), "test": test}
    out = pieces(split, merges)
    for name in ("train", "valid"):
        out[name] = clean(*out[name], 1.5, 1, 250)
    return out, test, plain


def news(n):
    archive, name = NEWS
    return archive.format(n=n), name.replace("{n}", str(n))


EN_DE = (EUROPARL, COMMON_CRAWL, news(12))
PUBLISHED = {
    "iwslt14_de_en": iwslt14,
    "wmt14_en_de": lambda raw, merges: wmt(raw, merges, ("en", "de"), EN_DE, "deen"),
    "wmt14_en_fr": lambda raw, merges: wmt(
        raw, merges, ("en", "fr"), (EUROPARL, COMMON_CRAWL, UN, news(9), GIGA), "fren", 1333
    ),
    "wmt17_en_de": lambda raw, merges: wmt(raw, merges, ("en", "de"), EN_DE, "deen", 100),
}
