"""Prepare a data set: from its archives, or the user's own text, to fairseq's binary format.

The steps: download; unpack; make the files of words (remove markup, normalise, tokenise,
lower-case, drop pairs by length, split into training, validation and test); make the files of
subword pieces (learn them from the training text, split all text into them, drop pairs by length
again if the data set says so); binarise with fairseq-preprocess. The user's own text is checked
first and goes through the same steps from the words on. Lines are lower-cased before pairs are
dropped; IWSLT's published script does it the other way round, with the same result, because the
numbers of words are the same.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Any, Callable, Iterable, Iterator, Optional, Sequence

from fairseq.options import get_preprocessing_parser
from fairseq.tasks import FairseqTask

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
from admin_fairseq.corpora.markup import Markup
from admin_fairseq.corpora.own import checked_lines, held_out, in_folder, name_of, own_text
from admin_fairseq.corpora.places import identity, remove
from admin_fairseq.corpora.prepared import PREPARED, SPLITS, DataFolder, read_prepared
from admin_fairseq.corpora.rules import clean, line_rules
from admin_fairseq.corpora.steps import Steps, alone_in, begin, begun
from admin_fairseq.corpora.streams import (
    Pair,
    chunks,
    in_order,
    pairs,
    progress,
    read_lines,
    write_pairs,
    writing,
)
from admin_fairseq.corpora.subwords import SUBWORDS, encoder
from admin_fairseq.errors import AdminError
from admin_fairseq.files import replacing_folder, write_json
from admin_fairseq.provenance import installed_versions
from admin_fairseq.workers import apart

logger = logging.getLogger(__name__)
PACKAGES = ("fairseq", "fairseq-fixed", "sacremoses", "subword-nmt", "sentencepiece")
PADDING = 8  # sizes of dictionaries are multiples of it, as by default in fairseq-preprocess


@dataclass(frozen=True)
class Options:
    """The options of ``admin-fairseq prepare``, under the same names."""

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
    force: bool = False


def prepare(options: Options) -> dict[str, Any]:
    """Prepare a data set in the folder ``options.data_dir``; skip the steps that are done already.

    The data set is the published one named ``options.dataset``, or the user's own text
    ``options.text``. Returns the content of the prepared.json that it writes. Raises AdminError for
    missing or damaged archives, unequal numbers of lines, text that is not UTF-8 and any other
    fault of the input, and, unless ``options.force``, if the folder has finished data that were
    made with other settings.
    """
    preparation = _Preparation(options)
    preparation.check()  # before the lock, so that a refusal leaves no folder and no lock behind
    with alone_in(options.data_dir):
        return preparation.run()


def _dataset(options: Options) -> Dataset:
    """Return the description of the data set that the options select, published or the user's own
    text; raise AdminError if options contradict one another."""
    text, source, target = options.text, options.source, options.target
    if options.dataset:
        if any(word is not None for word in (text, source, target, options.valid, options.test)):
            raise AdminError(
                f"{options.dataset} has its own text; leave out --text, --source, --target, "
                "--valid and --test"
            )
        return _published(options.dataset, options)
    if not (text and source and target):
        raise AdminError("name a data set, or your own text: --text PREFIX --source de --target en")
    if options.raw_dir or options.mirror:
        raise AdminError("--raw-dir and --mirror are for published data sets, not for --text")
    return own_text(text, source, target, options.valid, options.test, options.data_dir)


def _published(name: str, options: Options) -> Dataset:
    """Return the description of the published data set ``name``.

    Raises AdminError if it is one that this command cannot download, and --raw-dir is not given.
    """
    dataset = DATASETS[name]
    if not isinstance(dataset, TextFiles):
        return dataset
    if not options.raw_dir:
        raise AdminError(
            f"{name} is not downloaded; set --raw-dir to the folder that has {dataset.title}"
        )
    return in_folder(dataset, options.raw_dir, options.data_dir)


class _Preparation:
    """One run of ``admin-fairseq prepare``: the options, the data set, and the steps to make it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.dataset = _dataset(options)
        self.bpe = options.bpe or self.dataset.pieces
        self.subwords = SUBWORDS[self.bpe]
        self.folder = DataFolder(options.data_dir, self.dataset.languages, self.subwords.file)
        self.raw_dir = options.raw_dir or self.folder.at("raw")
        # converted to JSON and back, so that it can be compared with prepared.json
        rules = json.loads(json.dumps(asdict(self.dataset), default=lambda markup: markup.value))
        self.settings: dict[str, Any] = {
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
        """Make the data set, unless it is complete already, and return prepared.json's content."""
        made = self.check()  # again, as another run may have ended just before the lock
        if made is not None:
            logger.info("%s is ready", self.options.data_dir)
            return made
        paths = {archive: self._fetch(archive) for archive in self.dataset.archives}
        remove(self.folder.at(PREPARED))  # the steps below make its content untrue
        self._take_steps(paths)
        made = {
            **self.settings,
            "archives": {archive.name: identity(path) for archive, path in paths.items()},
            "pairs": {split: _length(read_lines(self.folder.pieces(split)[0])) for split in SPLITS},
            "versions": installed_versions(*PACKAGES),
        }
        write_json(made, self.folder.at(PREPARED))
        return made

    def check(self) -> Optional[dict[str, Any]]:
        """Return prepared.json's content if the data set is complete already, else None.

        Reads only. Raises AdminError if --data-dir has files that must not be replaced, or if
        --raw-dir lacks an archive.
        """
        made = self._made_before()
        if made is None:
            self._refuse_foreign_files()
            self._refuse_other_settings()
            if self.options.raw_dir is not None:
                for archive in self.dataset.archives:
                    self._fetch(archive)
        return made

    def _refuse_foreign_files(self) -> None:
        """Raise AdminError if --data-dir has a file that would be replaced and that ``prepare`` did
        not make: no preparation has begun in the folder."""
        if os.path.lexists(self.folder.at(PREPARED)) or begun(self.options.data_dir):
            return
        for path in (self.folder.at("bin"), *self.folder.text()):
            if os.path.lexists(path):
                raise AdminError(
                    f"{path}: already exists and would be replaced; choose another --data-dir"
                )

    def _refuse_other_settings(self) -> None:
        """Raise AdminError if --data-dir has finished data that were made with other settings or of
        other text, unless --force is set."""
        before = read_prepared(self.options.data_dir)
        if before is None or self.options.force or not os.path.isdir(self.folder.at("bin")):
            return
        changed = self._differences(before)
        if changed:
            raise AdminError(
                f"{self.options.data_dir}: was prepared with other settings ({'; '.join(changed)}),"
                " and checkpoints that were trained on its data would no longer fit; choose "
                "another --data-dir, or use --force to make the data again"
            )

    def _differences(self, before: dict[str, Any]) -> list[str]:
        """Describe how this preparation differs from that of ``before``, a prepared.json."""
        asked = {**before, **self.settings}
        changed = {name for name in before if before[name] != asked[name]}
        named = ("source", "target", "bpe", "joined_dictionary")
        found = [f"{name} {before[name]}, now {asked[name]}" for name in named if name in changed]
        found += (
            ["other text or rules, or its files were moved or changed"]
            if "recipe" in changed
            else []
        )
        archives = self._changed_archives(before) if "archives" in before else []
        return found + [f"{name} was replaced" for name in archives]

    def _take_steps(self, paths: dict[Archive, str]) -> None:
        """Unpack the archives (``paths``: archive → its file), then make the tokenised text, the
        subword pieces and fairseq's binary data; skip the steps that are done already."""
        steps = Steps(self.options.data_dir)
        for archive, path in paths.items():
            members = self._members(archive)
            steps.run(
                f"unpack {archive.name}",
                [identity(path), sorted(members)],
                list(members.values()),
                partial(self._unpack, archive, path, members),
            )
        folder, bpe = self.folder, self.settings["bpe"]
        words = [path for split in SPLITS for path in folder.words(split)]
        pieces = [path for split in SPLITS for path in folder.pieces(split)]
        recipe, joined = self.settings["recipe"], self.settings["joined_dictionary"]
        steps.run("words", recipe, [*words, *folder.test("raw")], self._make_words)
        steps.run("learn pieces", bpe, [folder.learned()], self._learn)
        steps.run("pieces", bpe, [*pieces, *folder.test("words")], self._make_pieces)
        steps.run("binary", joined, folder.binary(), self._binarise)

    def _made_before(self) -> Optional[dict[str, Any]]:
        """Return the content of prepared.json if this data set is complete already, else None.

        Complete means: prepared.json records the same settings and the archives that are in the
        folder now, and all output files exist.
        """
        made = read_prepared(self.options.data_dir)
        if made is None or any(made.get(name) != self.settings[name] for name in self.settings):
            return None
        if self._changed_archives(made):
            return None
        results = [*self.folder.text(), *self.folder.binary()]
        return made if "pairs" in made and all(map(os.path.isfile, results)) else None

    # archives

    def _changed_archives(self, made: dict[str, Any]) -> list[str]:
        """Return the names of the archives in the folder that are not those which ``made``, the
        content of a prepared.json, records."""
        identities = made.get("archives", {})
        paths = {a.name: os.path.join(self.raw_dir, a.name) for a in self.dataset.archives}
        return [
            name
            for name, path in paths.items()
            if os.path.exists(path) and identity(path) != identities.get(name)
        ]

    def _fetch(self, archive: Archive) -> str:
        """Return the path of an archive: in --raw-dir, or else downloaded."""
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
        """Map the name of each needed member of the archive to the path where it is unpacked."""
        parts = [part for part in self.dataset.parts if part.archive == archive.name]
        members = [member for part in parts for member in (part.source, part.target)]
        return {member: self.folder.unpacked(archive.name, member) for member in members}

    def _unpack(self, archive: Archive, path: str, members: dict[str, str]) -> None:
        """Check the archive's recorded checksum, then extract ``members`` (name → path)."""
        download.check(archive, path)
        archives.unpack(path, members)

    # words

    def _make_words(self) -> None:
        """Write the tokenised text of every split (work/SPLIT.words.*), and the test set as
        published (test.raw.*)."""
        dataset = self.dataset
        self._split_training_text()
        if isinstance(dataset.valid, Part):
            self._write_words("valid", (dataset.valid,), dataset.corpus_rules)
        if not isinstance(dataset.test, HeldOut):
            self._write_words("test", dataset.test, dataset.test_rules)
        for split in SPLITS:
            if not os.path.getsize(self.folder.words(split)[0]):
                raise AdminError(
                    f"{self.settings['dataset']}: no sentence pair is left for {split}; "
                    f"{'are the archives' if dataset.archives else 'is the text'} complete?"
                )
        self._copy_raw()

    def _split_training_text(self) -> None:
        """Tokenise the training text by the data set's rules, and write each sentence pair to the
        files (work/SPLIT.words.*) of its split: train, or a split drawn from the training text."""
        dataset, split_of = self.dataset, self._drawn()
        both = self._by_rules(dataset.train, dataset.corpus_rules, dataset.clean_words)
        with ExitStack() as stack:
            write = {
                split: stack.enter_context(writing(self.folder.words(split)))
                for split in ("train", *dataset.drawn)
            }
            for number, pair in enumerate(progress(both, "train", "pairs"), 1):
                write[split_of(number)](*pair)

    def _drawn(self) -> Callable[[int], str]:
        """Return a function from the number of a training pair (1, 2, …) to the split it goes to.

        Checks the user's own text first, because the draw needs the number of its pairs.
        """
        valid = self.dataset.valid
        if isinstance(valid, EveryNth):
            nth = valid.n
            return lambda number: "train" if number % nth else "valid"
        if self.dataset.archives:
            return lambda number: "train"
        count = self._checked()
        drawn = held_out(self.dataset.drawn, count)
        for split in self.dataset.drawn:
            size = sum(name == split for name in drawn.values())
            logger.info("%s: %d of %d pairs are held out", split, size, count)
        return lambda number: drawn.get(number, "train")

    def _checked(self) -> int:
        """Read the user's own text once, which raises AdminError for a faulty line, and return the
        number of training pairs."""
        for parts in (self.dataset.parts[len(self.dataset.train) :], self.dataset.train):
            count = _length(progress(self._sentences(parts), "checking", "pairs"))
        return count

    def _copy_raw(self) -> None:
        """Write test.raw.*, the test set as published but without markup.

        A test set drawn from the user's own text is copied from work/test.words.*, which is not
        tokenised and has no markup.
        """
        if isinstance(self.dataset.test, HeldOut):
            both = pairs(self.folder.words("test"))
        else:
            both = self._sentences(self.dataset.test)
        begin(self.options.data_dir)
        write_pairs(self.folder.test("raw"), both)

    def _write_words(self, split: str, parts: Sequence[Part], rules: tuple[str, ...]) -> None:
        """Apply the named rules, such as tokenise, to the texts ``parts``, and write the result to
        work/SPLIT.words.*."""
        both = self._by_rules(parts, rules, None)
        write_pairs(self.folder.words(split), progress(both, split, "pairs"))

    def _by_rules(
        self, parts: Sequence[Part], rules: tuple[str, ...], limits: Optional[Clean]
    ) -> Iterator[Pair]:
        """Apply the named rules to the texts ``parts``; yield the pairs within the limits."""
        apply = partial(_apply_rules, self.dataset.languages, rules, limits)
        return self._in_parallel(apply, self._sentences(parts))

    def _sentences(self, parts: Sequence[Part]) -> Iterator[Pair]:
        """Yield the sentence pairs of the texts ``parts``, one text after the other, without
        markup."""
        for part in parts:
            read = read_lines if part.archive else checked_lines
            yield from pairs(self.folder.sides(part), partial(_without_markup, part.markup, read))

    # pieces

    def _learn(self) -> None:
        """Learn the subwords from the training text of both languages, and write them to a file."""
        texts, size = list(self.folder.words("train")), self.settings["bpe"]["size"]
        self.subwords.learn(texts, self.folder.learned(), size)

    def _make_pieces(self) -> None:
        """Split the text of train, valid and test into subword pieces, and write it to SPLIT.*.

        Training pairs beyond the length limits are dropped, and so are validation pairs that were
        drawn from the training text.
        """
        for split in SPLITS:
            cleaned = split == "train" or (split == "valid" and split in self.dataset.drawn)
            limits = self.dataset.clean_pieces if cleaned else None
            words, pieces = self.folder.words(split), self.folder.pieces(split)
            encode = partial(_encode, self.bpe, self.folder.learned(), limits)
            both = self._in_parallel(encode, pairs(words))
            write_pairs(pieces, progress(both, split, "pairs"))
            _log_dropped(split, words[0], pieces[0])
        write_pairs(self.folder.test("words"), pairs(self.folder.words("test")))

    def _binarise(self) -> None:
        """Count the dictionaries, and run fairseq-preprocess on the subword pieces with them;
        replace bin/ only if it succeeds."""
        options = [f"--source-lang={self.dataset.source}", f"--target-lang={self.dataset.target}"]
        options += [f"--{split}pref={self.folder.at(split)}" for split in SPLITS]
        options.append(f"--workers={self.options.workers}")
        texts, dictionaries = self.folder.pieces("train"), self.folder.counted()
        counts = {path: [text] for path, text in zip(dictionaries, texts)}
        options += [f"--{side}dict={path}" for side, path in zip(("src", "tgt"), dictionaries)]
        if self.settings["joined_dictionary"]:
            counts = {dictionaries[0]: list(texts)}
            options[-1] = "--joined-dictionary"
        more = self.subwords.vocabulary(self.folder.learned())
        with replacing_folder(self.folder.at("bin")) as folder:
            try:
                apart(_count, counts, more, self.options.workers)
                apart(_preprocess, [*options, f"--destdir={folder}"])
            except AdminError:
                raise
            except Exception as error:
                reason = str(error) or type(error).__name__
                raise AdminError(f"fairseq-preprocess failed: {reason}") from None

    def _in_parallel(
        self, work: Callable[[list[Pair]], list[Pair]], both: Iterable[Pair]
    ) -> Iterator[Pair]:
        """Apply ``work`` to lists of pairs in --workers processes; yield its pairs in order."""
        return chain.from_iterable(in_order(work, chunks(both), self.options.workers))


def _length(items: Iterable) -> int:
    """Count the items of an iterator."""
    return sum(1 for _ in items)


def _log_dropped(split: str, before: str, after: str) -> None:
    """Count the lines of two files, ``before`` and ``after`` the length limits, and log how many
    pairs of the split were dropped."""
    left, all_pairs = (_length(read_lines(path)) for path in (after, before))
    if left < all_pairs:
        logger.info(
            "%s: %d of %d pairs are dropped, too long or with too different lengths",
            *(split, all_pairs - left, all_pairs),
        )


def _without_markup(
    markup: Markup, read: Callable[[str], Iterator[str]], path: str
) -> Iterator[str]:
    """Yield the sentences of the file ``path``; a module function, so that processes can get it."""
    return markup.sentences(read(path))


def _apply_rules(
    languages: Pair, names: tuple[str, ...], limits: Optional[Clean], both: list[Pair]
) -> list[Pair]:
    """Apply the rules called ``names`` to both sentences of each pair; drop pairs beyond limits."""
    source, target = (line_rules(names, language) for language in languages)
    return _clean_all([(source(left), target(right)) for left, right in both], limits)


def _encode(kind: str, path: str, limits: Optional[Clean], both: list[Pair]) -> list[Pair]:
    """Split both sentences of each pair into subword pieces, with the merges or model in ``path``;
    drop pairs beyond the length limits."""
    encode = encoder(kind, path)
    return _clean_all([(encode(left), encode(right)) for left, right in both], limits)


def _clean_all(both: list[Pair], limits: Optional[Clean]) -> list[Pair]:
    """Drop the pairs beyond the length limits, if there are limits."""
    if limits is None:
        return both
    cleaned = [clean(left, right, limits) for left, right in both]
    return [pair for pair in cleaned if pair is not None]


def _count(texts: dict[str, list[str]], more: list[str], workers: int) -> None:
    """Write a dictionary for each path in ``texts``: the pieces of its text files by their number,
    as fairseq-preprocess does, then those of ``more`` that they lack, in order, with a count of 0.

    Call this in a process of its own, as it starts others. The size of a dictionary is padded to a
    multiple of 8, with entries that also have a count of 0.
    """
    for path, files in texts.items():
        dictionary = FairseqTask.build_dictionary(files, workers=workers, padding_factor=1)
        for piece in more:
            dictionary.add_symbol(piece, n=0)
        dictionary.pad_to_multiple_(PADDING)
        dictionary.save(path)


def _preprocess(options: list[str]) -> None:
    """Run fairseq-preprocess with these command-line options, and print nothing.

    Call this in a process of its own: it redirects stdout and stderr. fairseq-preprocess still
    writes its log to the output folder.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    from fairseq_cli import preprocess  # this import sets up logging for the whole process

    preprocess.logger.setLevel(logging.INFO)
    preprocess.main(get_preprocessing_parser().parse_args(options))
