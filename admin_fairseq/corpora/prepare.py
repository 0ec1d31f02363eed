"""A data set from its archives, or from text of one's own, to fairseq's binary format.

Steps: download, unpack, words (markup off, normalised, tokenised, lower-cased, cleaned, split into
training, validation and test), pieces (learned from the training text, applied to all, cleaned
again where a data set asks for it), binary. Text of one's own is checked, and takes the same steps
from the words on. Lines are lower-cased before they are cleaned, where the
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
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Annotated, Any, Callable, Iterable, Iterator, Optional, Sequence, TypedDict

import msgspec
from fairseq.options import get_preprocessing_parser

from admin_fairseq.corpora import archives, download
from admin_fairseq.corpora.datasets import (
    DATASETS,
    Archive,
    Clean,
    Dataset,
    EveryNth,
    HeldOut,
    Part,
    TextFiles,
)
from admin_fairseq.corpora.own import checked_lines, held_out, in_folder, name_of, own_text
from admin_fairseq.corpora.places import identity, open_input, remove
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
    tokenised: bool
    joined_dictionary: bool
    recipe: Any
    archives: dict[str, list[int]]
    pairs: dict[str, int]
    versions: dict[str, str]


@dataclass(frozen=True)
class Options:
    """What is asked for; names are those of the command line."""

    dataset: Optional[str]
    data_dir: str
    text: Optional[str] = None
    source: Optional[str] = None
    target: Optional[str] = None
    valid: Optional[str] = None
    test: Optional[str] = None
    raw_dir: Optional[str] = None
    mirror: Optional[str] = None
    bpe: Optional[str] = None
    bpe_size: Optional[int] = None
    separate_dictionaries: bool = False
    workers: int = 1


def prepare(options: Options) -> dict[str, Any]:
    """Make a data set in ``options.data_dir``; what is done is not done again.

    It is ``options.dataset`` or, without one, made from ``options.text``.

    Returns what it writes to prepared.json. Raises AdminError for missing or damaged archives,
    unequal numbers of lines, text that is not UTF-8 and whatever else is wrong with the input.
    """
    with alone_in(options.data_dir):
        return _Preparation(options).run()


def _dataset(options: Options) -> Dataset:
    """What to do; raises AdminError where options contradict one another."""
    own = (options.text, options.source, options.target)
    if options.dataset:
        if any(word is not None for word in (*own, options.valid, options.test)):
            raise AdminError(f"{options.dataset} has its own text; leave --text and its like out")
        return _published(options.dataset, options)
    if not all(own):
        raise AdminError("name a data set, or your own text: --text PREFIX --source de --target en")
    if options.raw_dir or options.mirror:
        raise AdminError("--raw-dir and --mirror are for published data sets, not for --text")
    return own_text(*own, options.valid, options.test, options.data_dir)


def _published(name: str, options: Options) -> Dataset:
    dataset = DATASETS[name]
    if not isinstance(dataset, TextFiles):
        return dataset
    if not options.raw_dir:
        raise AdminError(f"{name} is not downloaded; --raw-dir is the folder of {dataset.title}")
    return in_folder(dataset, options.raw_dir, options.data_dir)


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
    """One run: the data set, the folder and what was asked for."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.dataset = _dataset(options)
        self.bpe = options.bpe or self.dataset.pieces
        self.subwords = SUBWORDS[self.bpe]
        self.raw_dir = options.raw_dir or self._at("raw")
        # as JSON gives it back, to be held against prepared.json
        rules = json.loads(json.dumps(asdict(self.dataset), default=lambda markup: markup.value))
        self.settings = {
            "dataset": options.dataset or name_of(options.data_dir),
            "source": self.dataset.source,
            "target": self.dataset.target,
            "lowercase": self.dataset.lowercase,
            "bpe": {"kind": self.bpe, "size": options.bpe_size or self.dataset.bpe_merges},
            "remove_bpe": self.subwords.remove,
            "joined_dictionary": not options.separate_dictionaries,
            "recipe": rules,
        }
        if not self.dataset.tokenised:
            self.settings["tokenised"] = False

    def run(self) -> dict[str, Any]:
        made = self._made_before()
        if made is not None:
            logger.info("%s is ready", self.options.data_dir)
            return made
        self._refuse_what_others_made()
        self._tell_what_is_replaced()
        paths = {archive: self._fetch(archive) for archive in self.dataset.archives}
        remove(self._at(PREPARED))  # from now on it is not true any more
        self._take_steps(paths)
        made = {
            **self.settings,
            "archives": {archive.name: identity(path) for archive, path in paths.items()},
            "pairs": {split: self._count(split) for split in SPLITS},
            "versions": installed_versions(*PACKAGES),
        }
        write_json(made, self._at(PREPARED))
        return made

    def _refuse_what_others_made(self) -> None:
        """Raise AdminError where an output lies in a folder in which no preparation has begun."""
        if os.path.lexists(self._at(PREPARED)) or os.path.isdir(self._at(WORKPLACE)):
            return
        outputs = [self._at("bin"), self._at(self.subwords.file), *self._files(self._pieces)]
        for path in (*outputs, *self._test_files("raw"), *self._test_files("words")):
            if os.path.lexists(path):
                raise AdminError(
                    f"{path}: lies there, and would be replaced; choose another --data-dir"
                )

    def _tell_what_is_replaced(self) -> None:
        before = read_prepared(self.options.data_dir) or {}
        named = ("source", "target", "bpe", "joined_dictionary")
        asked = {name: self.settings[name] for name in named}
        changed = [name for name in asked if before.get(name, asked[name]) != asked[name]]
        if changed:
            logger.warning(
                "%s: prepared otherwise before (%s); it is made again, and checkpoints that were "
                "trained on it no longer fit",
                self.options.data_dir,
                ", ".join(f"{name} {before[name]}, now {asked[name]}" for name in changed),
            )

    def _take_steps(self, paths: dict[Archive, str]) -> None:
        steps = Steps(self.options.data_dir)
        for archive, path in paths.items():
            members = self._members(archive)
            steps.run(
                f"unpack {archive.name}",
                [identity(path), sorted(members)],
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
        for archive in self.dataset.archives:
            path = os.path.join(self.raw_dir, archive.name)
            if os.path.exists(path) and identity(path) != identities.get(archive.name):
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
        test, valid = self.dataset.test, self.dataset.valid
        parts = [*self.dataset.train, *(() if isinstance(test, HeldOut) else test)]
        if isinstance(valid, Part):
            parts.append(valid)
        members = [m for p in parts if p.archive == archive.name for m in (p.source, p.target)]
        return {member: self._unpacked(archive.name, member) for member in members}

    def _unpack(self, archive: Archive, path: str, members: dict[str, str]) -> None:
        download.check(archive, path)
        archives.unpack(path, members)

    # words

    def _make_words(self) -> None:
        dataset = self.dataset
        drawn = self._drawn()
        train = self._by_rules(dataset.train, dataset.corpus_rules, dataset.clean_words)
        with ExitStack() as stack:
            both = (("valid", dataset.valid), ("test", dataset.test))
            taken = [split for split, of in both if isinstance(of, (EveryNth, HeldOut))]
            splits = ["train", *taken]
            write = {split: stack.enter_context(self._writing(split)) for split in splits}
            for number, pair in enumerate(progress(train, "train", "pairs"), 1):
                write[drawn(number)](*pair)
        if isinstance(dataset.valid, Part):
            self._write("valid", self._by_rules((dataset.valid,), dataset.corpus_rules, None))
        if not isinstance(dataset.test, HeldOut):
            self._write("test", self._by_rules(dataset.test, dataset.test_rules, None))
        for split in SPLITS:
            if not os.path.getsize(self._words(split, dataset.source)):
                raise AdminError(
                    f"{self.settings['dataset']}: no sentence pair is left for {split}; "
                    f"{'are the archives' if dataset.archives else 'is the text'} complete?"
                )
        self._copy_raw()

    def _drawn(self) -> Callable[[int], str]:
        """The split that takes pair 1, 2, … of the training text."""
        valid, test = self.dataset.valid, self.dataset.test
        if isinstance(valid, EveryNth):
            return lambda number: "train" if number % valid.n else "valid"
        if self.dataset.archives:
            return lambda number: "train"
        count = self._checked()
        splits = [s for s, held in (("valid", valid), ("test", test)) if isinstance(held, HeldOut)]
        drawn = held_out(splits, count)
        for split in splits:
            size = sum(name == split for name in drawn.values())
            logger.info("%s: %d of %d pairs are held out", split, size, count)
        return lambda number: drawn.get(number, "train")

    def _checked(self) -> int:
        """The number of training pairs of one's own text, when all of its files are in order."""
        valid, test = self.dataset.valid, self.dataset.test
        parts = [] if isinstance(test, HeldOut) else [*test]
        parts += [valid] if isinstance(valid, Part) else []
        for some in (parts, self.dataset.train):
            count = _length(progress(self._sentences(some), "checking", "pairs"))
        return count

    def _copy_raw(self) -> None:
        """The test set as it is written; what is held out has no other form than its words."""
        test, files = self.dataset.test, [self._words("test", s) for s in self.dataset.languages]
        own = isinstance(test, HeldOut)
        both = pairs(*map(read_lines, files), names=files) if own else self._sentences(test)
        with writing(self._test_files("raw")) as write:
            for pair in both:
                write(*pair)

    def _sentences(self, parts: Sequence[Part]) -> Iterator[Pair]:
        """The pairs of the parts one after the other, without markup."""
        for part in parts:
            own = part.archive is None
            paths = (part.source, part.target) if own else self._unpacked_sides(part)
            lines = map(checked_lines if own else read_lines, paths)
            sides = [part.markup.sentences(side) for side in lines]
            yield from pairs(*sides, names=paths)

    def _unpacked_sides(self, part: Part) -> Pair:
        return (
            self._unpacked(part.archive, part.source),
            self._unpacked(part.archive, part.target),
        )

    def _by_rules(
        self, parts: Sequence[Part], rules: tuple[str, ...], limits: Optional[Clean]
    ) -> Iterator[Pair]:
        apply = partial(_apply_rules, self.dataset.languages, rules, limits)
        return self._in_parallel(apply, self._sentences(parts))

    # pieces

    def _learn(self) -> None:
        texts = [self._words("train", lang) for lang in self.dataset.languages]
        self.subwords.learn(texts, self._at(self.subwords.file), self.settings["bpe"]["size"])

    def _make_pieces(self) -> None:
        drawn_from_train = not isinstance(self.dataset.valid, Part)
        for split in SPLITS:
            cleaned = split == "train" or (split == "valid" and drawn_from_train)
            limits = self.dataset.clean_pieces if cleaned else None
            files = [self._words(split, lang) for lang in self.dataset.languages]
            words = pairs(*map(read_lines, files), names=(files[0], files[1]))
            encode = partial(_encode, self.bpe, self._at(self.subwords.file), limits)
            with writing([self._pieces(split, lang) for lang in self.dataset.languages]) as write:
                for pair in progress(self._in_parallel(encode, words), split, "pairs"):
                    write(*pair)
            _tell_cleaned(split, files[0], self._pieces(split, self.dataset.source))
        for words, copy in zip(files, self._test_files("words")):  # files: those of the test set
            with replacing(copy) as file, open_input(words) as test:
                shutil.copyfileobj(test, file)

    def _binarise(self) -> None:
        words = [f"--source-lang={self.dataset.source}", f"--target-lang={self.dataset.target}"]
        words += [f"--{split}pref={self._at(split)}" for split in SPLITS]
        if self.settings["joined_dictionary"]:
            words.append("--joined-dictionary")
        words.append(f"--workers={self.options.workers}")
        with replacing_folder(self._at("bin")) as folder:
            try:
                apart(_preprocess, [*words, f"--destdir={folder}"])
            except AdminError:
                raise
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
        return [name(split, lang) for split in SPLITS for lang in self.dataset.languages]

    def _test_files(self, kind: str) -> list[str]:
        return [self._at(f"test.{kind}.{lang}") for lang in self.dataset.languages]

    def _dictionaries(self) -> list[str]:
        return [self._at("bin", f"dict.{lang}.txt") for lang in self.dataset.languages]

    def _count(self, split: str) -> int:
        return _length(read_lines(self._pieces(split, self.dataset.source)))

    def _writing(self, split: str) -> AbstractContextManager[Callable[..., None]]:
        return writing([self._words(split, lang) for lang in self.dataset.languages])

    def _write(self, split: str, both: Iterable[Pair]) -> None:
        with self._writing(split) as write:
            for pair in progress(both, split, "pairs"):
                write(*pair)

    def _in_parallel(
        self, work: Callable[[list[Pair]], list[Pair]], both: Iterable[Pair]
    ) -> Iterator[Pair]:
        return chain.from_iterable(in_order(work, chunks(both), self.options.workers))


def _length(items: Iterable) -> int:
    return sum(1 for _ in items)


def _tell_cleaned(split: str, before: str, after: str) -> None:
    """Say how many pairs were left out for their numbers of pieces."""
    left, all_pairs = (_length(read_lines(path)) for path in (after, before))
    if left < all_pairs:
        logger.info(
            "%s: %d of %d pairs are left out, too long or too unequal",
            *(split, all_pairs - left, all_pairs),
        )


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
