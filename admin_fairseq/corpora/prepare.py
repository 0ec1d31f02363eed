"""A data set from its archives to fairseq's binary format.

Steps: download, unpack, words (markup off, normalised, tokenised, lower-cased, cleaned, split into
training, validation and test), pieces (learned from the training text, applied to all, cleaned
again where the recipe says so), binary. Lines are lower-cased before they are cleaned, where the
published script of IWSLT cleans first: that counts the same words.

    DATA_DIR/
      bin/                         for fairseq-train
      train|valid|test.SRC|TGT     pieces
      test.words.SRC|TGT           the test set before it was split into pieces
      test.raw.SRC|TGT             as published, without markup: for sacreBLEU
      bpe.codes or sentencepiece.model
      prepared.json                how it was made, with numbers of pairs and versions
      raw/, work/                  archives and intermediate text; may be deleted at the end
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Annotated, Any, Callable, Iterable, Iterator, Optional, Sequence, TypedDict

import msgspec
from fairseq.options import get_preprocessing_parser

from admin_fairseq.corpora import archives, download
from admin_fairseq.corpora.places import open_input, remove
from admin_fairseq.corpora.recipes import RECIPES, Archive, Clean, EveryNth, Part
from admin_fairseq.corpora.rules import clean, line_rules
from admin_fairseq.corpora.steps import WORKPLACE, Steps, alone_in
from admin_fairseq.corpora.streams import (
    Pair,
    chunks,
    in_order,
    pairs,
    progress,
    read_lines,
    writing,
)
from admin_fairseq.corpora.subwords import SUBWORDS, encoder
from admin_fairseq.errors import AdminError
from admin_fairseq.files import read_json, replacing, replacing_folder, write_json
from admin_fairseq.provenance import installed_versions
from admin_fairseq.workers import apart

logger = logging.getLogger(__name__)
PREPARED = "prepared.json"
SPLITS = ("train", "valid", "test")
PACKAGES = ("fairseq", "fairseq-fixed", "sacremoses", "subword-nmt", "sentencepiece")

Name = Annotated[str, msgspec.Meta(pattern=r"\A\w[\w.-]{0,63}\Z")]
"""Of a data set or a language; it becomes part of file names."""


class _Needed(TypedDict):
    """What others read of prepared.json."""

    dataset: Name
    target: Name
    lowercase: bool


class _Prepared(_Needed, total=False):
    """prepared.json. What else is in it is held against the settings of a run."""

    source: Name
    bpe: Any
    remove_bpe: str
    joined_dictionary: bool
    recipe: Any
    archives: dict[str, list[int]]
    pairs: dict[str, int]
    versions: dict[str, str]


@dataclass(frozen=True)
class Options:
    """What is asked for; names are those of the command line."""

    dataset: str
    data_dir: str
    raw_dir: Optional[str] = None
    mirror: Optional[str] = None
    bpe: str = "subword-nmt"
    bpe_size: Optional[int] = None
    separate_dictionaries: bool = False
    workers: int = 1


def prepare(options: Options) -> dict[str, Any]:
    """Make ``options.dataset`` in ``options.data_dir``; what is done is not done again.

    Returns what it writes to prepared.json. Raises AdminError for missing or damaged archives,
    unequal numbers of lines, text that is not UTF-8 and whatever else is wrong with the input.
    """
    with alone_in(options.data_dir):
        return _Preparation(options).run()


def read_prepared(data_dir: str) -> Optional[dict[str, Any]]:
    """prepared.json of a data folder, None where there is none.

    Raises AdminError where it is damaged.
    """
    path = os.path.join(data_dir, PREPARED)
    if not os.path.lexists(path):
        return None
    try:
        return dict(read_json(path, _Prepared, "the record of a preparation"))
    except AdminError as error:
        raise AdminError(f"{error.message}; delete it and prepare the data again") from None


class _Preparation:
    """One run: the recipe, the folder and what was asked for."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.recipe = RECIPES[options.dataset]
        self.subwords = SUBWORDS[options.bpe]
        self.raw_dir = options.raw_dir or self._at("raw")
        # as JSON gives it back, to be held against prepared.json
        recipe = json.loads(json.dumps(asdict(self.recipe), default=lambda markup: markup.value))
        self.settings = {
            "dataset": options.dataset,
            "source": self.recipe.source,
            "target": self.recipe.target,
            "lowercase": self.recipe.lowercase,
            "bpe": {"kind": options.bpe, "size": options.bpe_size or self.recipe.bpe_merges},
            "remove_bpe": self.subwords.remove,
            "joined_dictionary": not options.separate_dictionaries,
            "recipe": recipe,
        }

    def run(self) -> dict[str, Any]:
        made = self._made_before()
        if made is not None:
            logger.info("%s is ready", self.options.data_dir)
            return made
        paths = {archive: self._fetch(archive) for archive in self.recipe.archives}
        remove(self._at(PREPARED))  # from now on it is not true any more
        self._take_steps(paths)
        made = {
            **self.settings,
            "archives": {archive.name: _identity(path) for archive, path in paths.items()},
            "pairs": {split: self._count(split) for split in SPLITS},
            "versions": installed_versions(*PACKAGES),
        }
        write_json(made, self._at(PREPARED))
        return made

    def _take_steps(self, paths: dict[Archive, str]) -> None:
        steps = Steps(self.options.data_dir)
        for archive, path in paths.items():
            members = self._members(archive)
            steps.run(
                f"unpack {archive.name}",
                [_identity(path), sorted(members)],
                list(members.values()),
                partial(self._unpack, archive, path, members),
            )
        bpe = self.settings["bpe"]
        words = [*self._files(self._words), *self._test_files("raw")]
        steps.run("words", self.settings["recipe"], words, self._make_words)
        steps.run("learn pieces", bpe, [self._at(self.subwords.file)], self._learn)
        pieces = [*self._files(self._pieces), *self._test_files("words")]
        steps.run("pieces", bpe, pieces, self._make_pieces)
        joined = self.settings["joined_dictionary"]
        steps.run("binary", joined, self._dictionaries(), self._binarise)

    def _made_before(self) -> Optional[dict[str, Any]]:
        """prepared.json, if it tells of these settings and of the archives that are here."""
        made = read_prepared(self.options.data_dir)
        if made is None or any(made.get(name) != self.settings[name] for name in self.settings):
            return None
        identities = made.get("archives", {})
        for archive in self.recipe.archives:
            path = os.path.join(self.raw_dir, archive.name)
            if os.path.exists(path) and _identity(path) != identities.get(archive.name):
                return None
        results = [*self._files(self._pieces), *self._test_files("raw"), *self._test_files("words")]
        results += [self._at(self.subwords.file), *self._dictionaries()]
        return made if "pairs" in made and all(map(os.path.isfile, results)) else None

    # archives

    def _fetch(self, archive: Archive) -> str:
        if self.options.raw_dir is None:
            verify = partial(archives.verify, members=self._members(archive))
            return download.fetch(archive, self.raw_dir, verify, self.options.mirror)
        path = os.path.join(self.raw_dir, archive.name)
        if not os.path.isfile(path):
            raise AdminError(
                f"{path}: missing; download it from {archive.urls[0]}, or leave --raw-dir out"
            )
        return path

    def _members(self, archive: Archive) -> dict[str, str]:
        """Member of the archive → where it is unpacked to."""
        parts = [*self.recipe.train, *self.recipe.test]
        if isinstance(self.recipe.valid, Part):
            parts.append(self.recipe.valid)
        members = [m for p in parts if p.archive == archive.name for m in (p.source, p.target)]
        return {member: self._unpacked(archive.name, member) for member in members}

    def _unpack(self, archive: Archive, path: str, members: dict[str, str]) -> None:
        download.check(archive, path)
        archives.unpack(path, members)

    # words

    def _make_words(self) -> None:
        recipe, valid = self.recipe, self.recipe.valid
        train = self._by_rules(recipe.train, recipe.corpus_rules, recipe.clean_words)
        if isinstance(valid, EveryNth):
            with self._writing("train") as to_train, self._writing("valid") as to_valid:
                for number, pair in enumerate(progress(train, "train", "pairs"), 1):
                    (to_valid if number % valid.n == 0 else to_train)(*pair)
        else:
            self._write("train", train)
            self._write("valid", self._by_rules((valid,), recipe.corpus_rules, None))
        self._write("test", self._by_rules(recipe.test, recipe.test_rules, None))
        for split in SPLITS:
            if not os.path.getsize(self._words(split, recipe.source)):
                raise AdminError(
                    f"{self.options.dataset}: no sentence pair is left for {split}; "
                    "are the archives complete?"
                )
        with writing(self._test_files("raw")) as write:
            for pair in self._sentences(recipe.test):
                write(*pair)

    def _sentences(self, parts: Sequence[Part]) -> Iterator[Pair]:
        """The pairs of the parts one after the other, without markup."""
        for part in parts:
            paths = (
                self._unpacked(part.archive, part.source),
                self._unpacked(part.archive, part.target),
            )
            sides = [part.markup.sentences(read_lines(path)) for path in paths]
            yield from pairs(*sides, names=paths)

    def _by_rules(
        self, parts: Sequence[Part], rules: tuple[str, ...], limits: Optional[Clean]
    ) -> Iterator[Pair]:
        apply = partial(_apply_rules, self.recipe.languages, rules, limits)
        return self._in_parallel(apply, self._sentences(parts))

    # pieces

    def _learn(self) -> None:
        texts = [self._words("train", lang) for lang in self.recipe.languages]
        self.subwords.learn(texts, self._at(self.subwords.file), self.settings["bpe"]["size"])

    def _make_pieces(self) -> None:
        drawn_from_train = isinstance(self.recipe.valid, EveryNth)
        for split in SPLITS:
            cleaned = split == "train" or (split == "valid" and drawn_from_train)
            limits = self.recipe.clean_pieces if cleaned else None
            files = [self._words(split, lang) for lang in self.recipe.languages]
            words = pairs(*map(read_lines, files), names=(files[0], files[1]))
            encode = partial(_encode, self.options.bpe, self._at(self.subwords.file), limits)
            with writing([self._pieces(split, lang) for lang in self.recipe.languages]) as write:
                for pair in progress(self._in_parallel(encode, words), split, "pairs"):
                    write(*pair)
        for words, copy in zip(files, self._test_files("words")):  # files: those of the test set
            with replacing(copy) as file, open_input(words) as test:
                shutil.copyfileobj(test, file)

    def _binarise(self) -> None:
        words = [f"--source-lang={self.recipe.source}", f"--target-lang={self.recipe.target}"]
        words += [f"--{split}pref={self._at(split)}" for split in SPLITS]
        if self.settings["joined_dictionary"]:
            words.append("--joined-dictionary")
        words.append(f"--workers={self.options.workers}")
        with replacing_folder(self._at("bin")) as folder:
            try:
                apart(_preprocess, [*words, f"--destdir={folder}"])
            except Exception as error:
                reason = str(error) or type(error).__name__
                raise AdminError(f"fairseq-preprocess failed: {reason}") from None

    # files

    def _at(self, *names: str) -> str:
        return os.path.join(self.options.data_dir, *names)

    def _unpacked(self, archive: str, member: str) -> str:
        return self._at(WORKPLACE, archive, *member.split("/"))

    def _words(self, split: str, lang: str) -> str:
        return self._at(WORKPLACE, f"{split}.words.{lang}")

    def _pieces(self, split: str, lang: str) -> str:
        return self._at(f"{split}.{lang}")

    def _files(self, name: Callable[[str, str], str]) -> list[str]:
        return [name(split, lang) for split in SPLITS for lang in self.recipe.languages]

    def _test_files(self, kind: str) -> list[str]:
        return [self._at(f"test.{kind}.{lang}") for lang in self.recipe.languages]

    def _dictionaries(self) -> list[str]:
        return [self._at("bin", f"dict.{lang}.txt") for lang in self.recipe.languages]

    def _count(self, split: str) -> int:
        return sum(1 for _ in read_lines(self._pieces(split, self.recipe.source)))

    def _writing(self, split: str) -> AbstractContextManager[Callable[..., None]]:
        return writing([self._words(split, lang) for lang in self.recipe.languages])

    def _write(self, split: str, both: Iterable[Pair]) -> None:
        with self._writing(split) as write:
            for pair in progress(both, split, "pairs"):
                write(*pair)

    def _in_parallel(
        self, work: Callable[[list[Pair]], list[Pair]], both: Iterable[Pair]
    ) -> Iterator[Pair]:
        return chain.from_iterable(in_order(work, chunks(both), self.options.workers))


def _apply_rules(
    languages: Pair, names: tuple[str, ...], limits: Optional[Clean], both: list[Pair]
) -> list[Pair]:
    source, target = (line_rules(names, language) for language in languages)
    return _clean_all([(source(left), target(right)) for left, right in both], limits)


def _encode(kind: str, path: str, limits: Optional[Clean], both: list[Pair]) -> list[Pair]:
    encode = encoder(kind, path)
    return _clean_all([(encode(left), encode(right)) for left, right in both], limits)


def _clean_all(both: list[Pair], limits: Optional[Clean]) -> list[Pair]:
    if limits is None:
        return both
    cleaned = [clean(left, right, limits) for left, right in both]
    return [pair for pair in cleaned if pair is not None]


def _preprocess(words: list[str]) -> None:
    """Do what fairseq-preprocess does, in a process apart; its log is in its folder alone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    from fairseq_cli import preprocess  # it sets up logging for the whole process

    preprocess.logger.setLevel(logging.INFO)
    preprocess.main(get_preprocessing_parser().parse_args(words))


def _identity(path: str) -> list[int]:
    """Size and time of change: another file under the same name has others."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]
