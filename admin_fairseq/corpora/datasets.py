"""The table of published data sets: where each is downloaded and how its text is prepared.

The preparation follows fairseq's own scripts (``examples/translation``) and the Admin release
(``pre-process``), which follows those scripts; where the two differ, a comment in ``DATASETS`` says
which one is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional, Union

from admin_fairseq.corpora.markup import Markup


class Archive(NamedTuple):
    """A file to download: its name, its addresses in the order to try, and its MD5 checksum if
    one is published."""

    name: str
    urls: tuple[str, ...]
    md5: Optional[str] = None


class Part(NamedTuple):
    """A parallel text: the names of its source and its target file.

    The names are members of the tar archive ``archive``, or paths of files if ``archive`` is None.
    """

    archive: Optional[str]
    source: str
    target: str
    markup: Markup = Markup.PLAIN


class EveryNth(NamedTuple):
    """A rule that moves every n-th sentence pair of the training text to the validation data."""

    n: int


class HeldOut(NamedTuple):
    """A rule that moves random pairs of the training text to the validation or test data: one in
    ``one_in`` pairs, and at most ``most``."""

    one_in: int
    most: int


class Clean(NamedTuple):
    """Length limits of the sentence pairs to keep, in words or subword pieces: both sentences have
    ``shortest`` to ``longest``, and the longer at most ``ratio`` times as many as the shorter."""

    ratio: float
    shortest: int
    longest: int


@dataclass(frozen=True)
class Dataset:
    """A data set: its languages, its files, and the settings of its preparation."""

    title: str
    source: str  # language code, such as de
    target: str  # language code
    train: tuple[Part, ...]
    valid: Union[EveryNth, HeldOut, Part]
    test: Union[HeldOut, tuple[Part, ...]]
    bpe_merges: int
    archives: tuple[Archive, ...] = ()
    corpus_rules: tuple[str, ...] = ()  # names in rules.RULES, for training and validation text
    test_rules: tuple[str, ...] = ()  # names in rules.RULES, for the test text
    clean_words: Optional[Clean] = None  # limits in words, applied before the split into pieces
    # limits in pieces, for training pairs and for validation pairs drawn from the training text
    clean_pieces: Optional[Clean] = None

    # class attributes, not fields, so that prepared.json does not record them as settings
    pieces = "subword-nmt"  # the default of --bpe: a name in subwords.SUBWORDS
    tokenised = True  # whether the rules split the text into Moses' tokens

    @property
    def lowercase(self) -> bool:
        """Whether the test set is lower-cased, so that BLEU has to ignore case."""
        return "lower-case" in self.test_rules

    @property
    def languages(self) -> tuple[str, str]:
        return self.source, self.target

    @property
    def parts(self) -> list[Part]:
        """All parallel texts, in the order training, validation, test; without the splits that are
        drawn from the training text."""
        valid = [self.valid] if isinstance(self.valid, Part) else []
        return [*self.train, *valid, *(() if isinstance(self.test, HeldOut) else self.test)]

    @property
    def drawn(self) -> list[str]:
        """Names of the splits (valid, test) whose pairs are drawn from the training text."""
        splits = {"valid": self.valid, "test": self.test}
        return [name for name, of in splits.items() if isinstance(of, (EveryNth, HeldOut))]


SANE = Clean(ratio=1000, shortest=1, longest=1000)
"""Limits in words: drop pairs in which one sentence is empty or extremely long.

They are wide because a language without spaces has one word per sentence."""
USUAL = Clean(ratio=9, shortest=1, longest=250)
"""Limits in subword pieces: the ratio as in the Admin release, the length as in fairseq's WMT
scripts."""


@dataclass(frozen=True)
class TextFiles(Dataset):
    """A data set that is read from text files instead of downloaded archives.

    ``identities`` has the path, size and modification time of each file, so that a later run
    notices a changed file.
    """

    clean_words: Optional[Clean] = SANE
    clean_pieces: Optional[Clean] = USUAL
    identities: tuple[tuple[str, list[int]], ...] = ()
    pieces = "sentencepiece"
    tokenised = False


def _statmt(name: str, *paths: str, md5: Optional[str] = None) -> Archive:
    """Describe an archive of the WMT organisers, at each of ``paths`` on both of their hosts."""
    hosts = ("https://www.statmt.org/", "https://data.statmt.org/")
    return Archive(name, tuple(host + path for path in paths for host in hosts), md5)


IWSLT14 = Archive(
    "de-en.tgz",
    (
        "https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz",
        "https://wit3.fbk.eu/archive/2014-01/texts/de/en/de-en.tgz",
    ),
)
EUROPARL = _statmt("training-parallel-europarl-v7.tgz", "wmt13/training-parallel-europarl-v7.tgz")
COMMON_CRAWL = _statmt(
    "training-parallel-commoncrawl.tgz", "wmt13/training-parallel-commoncrawl.tgz"
)
UN = _statmt("training-parallel-un.tgz", "wmt13/training-parallel-un.tgz")
NEWS_9 = _statmt("training-parallel-nc-v9.tgz", "wmt14/training-parallel-nc-v9.tgz")
NEWS_12 = _statmt(
    "training-parallel-nc-v12.tgz", "wmt17/translation-task/training-parallel-nc-v12.tgz"
)
GIGA = _statmt("training-giga-fren.tar", "wmt10/training-giga-fren.tar")
DEV = _statmt("dev.tgz", "wmt17/translation-task/dev.tgz")
# the checksum that sacreBLEU uses
TEST_2014 = _statmt("test-full.tgz", "wmt14/test-full.tgz", md5="a8cd784e006feb32ac6f3d9ec7eb389a")

WMT_CORPUS = ("normalise", "printable", "tokenise-aggressively")
WMT_TEST = ("straighten-apostrophes", "tokenise-aggressively")


def _texts(source: str, target: str, *members: tuple[Archive, str]) -> tuple[Part, ...]:
    """Describe parallel texts, each by its archive and its path there without language suffix."""
    return tuple(Part(a.name, f"{name}.{source}", f"{name}.{target}") for a, name in members)


def _newstest2014(pair: str, source: str, target: str) -> tuple[Part, ...]:
    """Describe the SGML files of newstest2014; ``pair`` is WMT's code, such as deen."""
    start = f"test-full/newstest2014-{pair}"
    members = f"{start}-src.{source}.sgm", f"{start}-ref.{target}.sgm"
    return (Part(TEST_2014.name, *members, Markup.SEGMENTS),)


EN_DE_TEXTS = (
    (EUROPARL, "training/europarl-v7.de-en"),
    (COMMON_CRAWL, "commoncrawl.de-en"),
    (NEWS_12, "training/news-commentary-v12.de-en"),
)

IWSLT14_TEST = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")

DATASETS = {
    "iwslt14_de_en": Dataset(
        title="IWSLT14 De-En: TED talks, lower-cased, 10,000 merges",
        source="de",
        target="en",
        archives=(IWSLT14,),
        train=(
            Part(
                IWSLT14.name,
                "de-en/train.tags.de-en.de",
                "de-en/train.tags.de-en.en",
                Markup.TAGS,
            ),
        ),
        valid=EveryNth(23),
        test=tuple(
            Part(
                IWSLT14.name,
                f"de-en/IWSLT14.{talks}.de-en.de.xml",
                f"de-en/IWSLT14.{talks}.de-en.en.xml",
                Markup.SEGMENTS,
            )
            for talks in IWSLT14_TEST
        ),
        bpe_merges=10_000,
        corpus_rules=("tokenise", "lower-case"),
        test_rules=("straighten-apostrophes", "tokenise", "lower-case"),
        clean_words=Clean(1.5, 1, 175),
    ),
    # the Admin release: cleaned before BPE with Moses' own ratio, newstest2013 for validation
    "wmt14_en_de": Dataset(
        title="WMT14 En-De as in the Admin release: 4.5 million pairs, 32,764 merges",
        source="en",
        target="de",
        archives=(EUROPARL, COMMON_CRAWL, NEWS_12, DEV, TEST_2014),
        train=_texts("en", "de", *EN_DE_TEXTS),
        valid=_texts("en", "de", (DEV, "dev/newstest2013"))[0],
        test=_newstest2014("deen", "en", "de"),
        bpe_merges=32_764,
        corpus_rules=WMT_CORPUS,
        test_rules=WMT_TEST,
        clean_words=Clean(9, 1, 80),
    ),
    "wmt14_en_fr": Dataset(
        title="WMT14 En-Fr: 36 to 40 million pairs, 40,000 merges",
        source="en",
        target="fr",
        archives=(EUROPARL, COMMON_CRAWL, UN, NEWS_9, GIGA, TEST_2014),
        train=_texts(
            "en",
            "fr",
            (EUROPARL, "training/europarl-v7.fr-en"),
            (COMMON_CRAWL, "commoncrawl.fr-en"),
            (UN, "un/undoc.2000.fr-en"),
            (NEWS_9, "training/news-commentary-v9.fr-en"),
            (GIGA, "giga-fren.release2.fixed"),
        ),
        valid=EveryNth(1333),
        test=_newstest2014("fren", "en", "fr"),
        bpe_merges=40_000,
        corpus_rules=WMT_CORPUS,
        test_rules=WMT_TEST,
        clean_pieces=Clean(1.5, 1, 250),
    ),
    # what fairseq's script makes by default, and called wmt17_en_de at first
    "wmt17_en_de": Dataset(
        title="WMT17 En-De as fairseq prepares it: 4.5 million pairs, 40,000 merges",
        source="en",
        target="de",
        archives=(EUROPARL, COMMON_CRAWL, NEWS_12, TEST_2014),
        train=_texts("en", "de", *EN_DE_TEXTS),
        valid=EveryNth(100),
        test=_newstest2014("deen", "en", "de"),
        bpe_merges=40_000,
        corpus_rules=WMT_CORPUS,
        test_rules=WMT_TEST,
        clean_pieces=Clean(1.5, 1, 250),
    ),
    "multi30k": TextFiles(
        title="Multi30k De-En, {train,val,test_2016_flickr}.{de,en}.gz of data/task1/raw in "
        "https://github.com/multi30k/dataset",
        source="de",
        target="en",
        train=(Part(None, "train.de.gz", "train.en.gz"),),
        valid=Part(None, "val.de.gz", "val.en.gz"),
        test=(Part(None, "test_2016_flickr.de.gz", "test_2016_flickr.en.gz"),),
        bpe_merges=8000,
    ),
}
"""The data sets of ``admin-fairseq prepare``, by name."""
