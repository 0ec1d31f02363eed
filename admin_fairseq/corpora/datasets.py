"""The table of data sets: where each comes from and which rules make its training data.

The rules are those of fairseq's own preparation scripts (``examples/translation``) and of the
Admin release (``pre-process``), which follows them; where the two differ, a row says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional, Union

from admin_fairseq.corpora.markup import Markup


class Archive(NamedTuple):
    """A file to download: its addresses, first to last, and its MD5 sum where one is known."""

    name: str
    urls: tuple[str, ...]
    md5: Optional[str] = None


class Part(NamedTuple):
    """A parallel text: for each side one member of an archive, or a file if that is None."""

    archive: Optional[str]
    source: str
    target: str
    markup: Markup = Markup.PLAIN


class EveryNth(NamedTuple):
    """Validation data: the n-th, 2n-th, … pair of the training text, taken out of it."""

    n: int


class HeldOut(NamedTuple):
    """Data taken out of the training text: one of ``one_in`` pairs, at most ``most`` in all."""

    one_in: int
    most: int


class Clean(NamedTuple):
    """Which pairs are kept: each side has ``shortest`` to ``longest`` words, and the longer side
    at most ``ratio`` times as many as the shorter."""

    ratio: float
    shortest: int
    longest: int


@dataclass(frozen=True)
class Dataset:
    """How a data set is made."""

    title: str
    source: str  # language
    target: str
    train: tuple[Part, ...]
    valid: Union[EveryNth, HeldOut, Part]
    test: Union[HeldOut, tuple[Part, ...]]
    bpe_merges: int
    archives: tuple[Archive, ...] = ()
    corpus_rules: tuple[str, ...] = ()  # names in rules.RULES, for training and validation text
    test_rules: tuple[str, ...] = ()
    clean_words: Optional[Clean] = None  # before the text is split into pieces
    clean_pieces: Optional[Clean] = None  # afterwards; validation pairs drawn from training too

    # not fields: they are not settings of the published data sets
    pieces = "subword-nmt"  # the default, a name in subwords.SUBWORDS
    tokenised = True  # the text has Moses' tokens

    @property
    def lowercase(self) -> bool:
        return "lower-case" in self.test_rules

    @property
    def languages(self) -> tuple[str, str]:
        return self.source, self.target

    @property
    def parts(self) -> list[Part]:
        """All texts: training, validation and test, as far as they have texts of their own."""
        valid = [self.valid] if isinstance(self.valid, Part) else []
        return [*self.train, *valid, *(() if isinstance(self.test, HeldOut) else self.test)]

    @property
    def drawn(self) -> list[str]:
        """The splits that are drawn from the training text."""
        splits = {"valid": self.valid, "test": self.test}
        return [name for name, of in splits.items() if isinstance(of, (EveryNth, HeldOut))]


SANE = Clean(ratio=1000, shortest=1, longest=1000)
"""Limits in words, wide because some languages have no spaces; drops pairs with an empty side."""
USUAL = Clean(ratio=9, shortest=1, longest=250)
"""Limits in pieces: the ratio of the Admin release, the length of fairseq's WMT scripts."""


@dataclass(frozen=True)
class TextFiles(Dataset):
    """A data set of files instead of archives; ``identities`` shows when they change."""

    clean_words: Optional[Clean] = SANE
    clean_pieces: Optional[Clean] = USUAL
    identities: tuple[tuple[str, list[int]], ...] = ()
    pieces = "sentencepiece"
    tokenised = False


def _statmt(name: str, *paths: str, md5: Optional[str] = None) -> Archive:
    """An archive of the WMT organisers, which both of their hosts may have."""
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
# the sum that sacreBLEU has
TEST_2014 = _statmt("test-full.tgz", "wmt14/test-full.tgz", md5="a8cd784e006feb32ac6f3d9ec7eb389a")

WMT_CORPUS = ("normalise", "printable", "tokenise-aggressively")
WMT_TEST = ("straighten-apostrophes", "tokenise-aggressively")


def _texts(source: str, target: str, *members: tuple[Archive, str]) -> tuple[Part, ...]:
    """Parts whose two members differ only in the language at the end."""
    return tuple(Part(a.name, f"{name}.{source}", f"{name}.{target}") for a, name in members)


def _newstest2014(pair: str, source: str, target: str) -> tuple[Part, ...]:
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
"""Name → data set."""
