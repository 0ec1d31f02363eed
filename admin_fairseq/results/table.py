"""Make the table of runs: one row for runs that differ only in their seed, with mean and standard
deviation."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Callable, Iterable, NamedTuple, Optional, Sequence, Union

from admin_fairseq.errors import AdminError, printable, shortened
from admin_fairseq.formats import as_csv, as_json, as_markdown
from admin_fairseq.recipes import scores
from admin_fairseq.results.runs import RULE, VERDICTS, Run
from admin_fairseq.results.scoring import BOOTSTRAP
from admin_fairseq.results.significance import significance

NOTE = (
    "Losses are in bits per token, without label smoothing: the training loss of the last log "
    "interval, and the lowest validation loss. Of several seeds, the table shows mean±sample "
    "standard deviation (n-1) over the seeds that did not diverge; if all did, over all of them, "
    "and no BLEU."
)

LONGEST_SETTINGS = 500  # characters; a limit, because every line of curves.csv repeats the settings


class Number(NamedTuple):
    """A mean over seeds with its sample standard deviation, which is None for a single seed."""

    mean: float
    std: Optional[float]


def summary(values: Iterable[Optional[float]]) -> Optional[Number]:
    """Compute mean and sample standard deviation of the values that are not None; return None if
    there is no such value, and NaN if one of them is not finite."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if not all(map(math.isfinite, known)):
        return Number(math.nan, math.nan if len(known) > 1 else None)
    return Number(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)


Value = Union[str, Number, None]


@dataclass
class Row:
    """A row of the table: runs that differ only in their seed, paths, logging and devices."""

    runs: list[Run]
    settings: str = ""  # options that differ from rows of the same data set, scheme and depth
    baseline: Optional[Row] = None  # the row to compare with, of the same data set and depth

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def name(self) -> tuple[str, str, str]:
        return self.first.name

    def mean(self, value: Callable[[Run], Optional[float]]) -> Optional[Number]:
        """Average ``value`` over the runs that did not diverge, or over all if all diverged."""
        return summary(map(value, self._sound))

    @property
    def _sound(self) -> list[Run]:
        """The runs that did not diverge; all, if all did."""
        return [run for run in self.runs if run.verdict != "diverged"] or self.runs

    def score(self, kind: str) -> Optional[Number]:
        """Average a kind of score over the runs that did not diverge."""
        return summary(run.score(kind) for run in self.runs if run.verdict != "diverged")

    @property
    def updates_to_baseline(self) -> Value:
        """The updates until the validation loss is as low as the baseline's lowest, or how many of
        the runs reach it at all."""
        lowest = self.baseline and self.baseline.mean(lambda run: run.best and run.best.loss)
        if not lowest:
            return None
        updates = [run.updates_to(lowest.mean) for run in self._sound]
        missing = updates.count(None)
        if not missing:
            return summary(updates)
        return f"reached by {len(updates) - missing} of {len(updates)}"

    @cached_property
    def p_values(self) -> str:
        """The significance of the difference to the baseline in BLEU, of runs with equal seeds that
        did not diverge; with the seed, if the row has several."""
        if self.baseline is None or self.baseline is self:
            return ""
        pairs = [
            (run, other)
            for run in self.runs
            for other in self.baseline.runs
            if run.seed == other.seed and "diverged" not in (run.verdict, other.verdict)
        ]
        found = [(run.seed, significance(run, other)) for run, other in pairs]
        several = len(self.runs) > 1 or len(found) > 1
        return ", ".join(
            (f"seed {seed}: " if several else "") + f"{p:.3f}" for seed, p in found if p is not None
        )

    @property
    def published(self) -> Optional[dict[str, Any]]:
        """The published score for this data set, scheme and depth, if there is one."""
        run = self.first
        return scores.score(run.dataset, run.scheme, run.depths, run.model)

    @property
    def verdict(self) -> str:
        """What is wrong with the runs, such as "diverged" or "1 of 3 diverged"; "" if nothing."""
        if len(self.runs) == 1:
            return self.first.verdict
        counts = Counter(run.verdict for run in self.runs)
        return ", ".join(
            f"{counts[name]} of {len(self.runs)} {name}" for name in VERDICTS if counts[name]
        )


class Column(NamedTuple):
    """A column of the table: the function that computes a cell from a row, and the decimals."""

    value: Callable[[Row], Value]
    digits: int = 2


COLUMNS = {
    "dataset": Column(lambda row: row.first.dataset),
    "scheme": Column(lambda row: row.first.scheme),
    "depth": Column(lambda row: row.first.depth),
    "settings": Column(lambda row: row.settings),
    "seeds": Column(lambda row: " ".join(str(run.seed) for run in row.runs)),
    "training loss": Column(lambda row: row.mean(lambda run: run.last_loss)),
    "validation loss": Column(lambda row: row.mean(lambda run: run.best and run.best.loss)),
    "at update": Column(lambda row: row.mean(lambda run: run.best and run.best.update), digits=0),
    "updates to baseline": Column(lambda row: row.updates_to_baseline, digits=0),
    "BLEU tokenised": Column(lambda row: row.score("tokenised")),
    "BLEU compound split": Column(lambda row: row.score("compound split")),
    "sacreBLEU detokenised": Column(lambda row: row.score("detokenised")),
    "p": Column(lambda row: row.p_values),
    "chrF2": Column(lambda row: row.score("chrF2")),
    "published BLEU": Column(lambda row: scores.text(row.published)),
    "seconds/update": Column(lambda row: row.mean(lambda run: run.log.seconds_per_update), 3),
    "hours": Column(lambda row: row.mean(lambda run: run.log.hours)),
    "verdict": Column(lambda row: row.verdict),
}
ALWAYS = ("dataset", "scheme", "depth", "seeds", "training loss", "verdict")
"""Columns that the table shows even if all their cells are empty."""


def rows_of(
    runs: Iterable[Run], sort: Optional[str] = None, baseline: Optional[str] = None
) -> list[Row]:
    """Group runs into rows; sort the rows by data set and depth, or by the column ``sort``: lowest
    value first, NaN and empty cells last.

    ``baseline`` is the scheme to compare the others with, at each data set and depth. Raises
    AdminError if no row has it, or more than one at the same data set and depth.
    """
    rows: list[Row] = []
    for run in runs:
        row = next((row for row in rows if _agree(row.first, run)), Row([]))
        if not row.runs:
            rows.append(row)
        row.runs.append(run)
    for row in rows:
        row.runs.sort(key=lambda run: str(run.seed))
        row.settings = _differences(row, [other for other in rows if other.name == row.name])
    if baseline is not None:
        _compare(rows, baseline)
    schemes = list(dict.fromkeys(row.first.scheme for row in rows))
    rows.sort(
        key=lambda row: (row.first.dataset, row.first.depths, schemes.index(row.first.scheme))
    )
    return sorted(rows, key=lambda row: _rank(COLUMNS[sort].value(row))) if sort else rows


def _compare(rows: Sequence[Row], scheme: str) -> None:
    """Set the baseline of each row: the one of this scheme at the row's data set and depth."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        dataset, name, depth = row.name
        if name == scheme and found.setdefault((dataset, depth), row) is not row:
            raise AdminError(
                f"--baseline {scheme}: several rows of {dataset}, {depth}, are of this scheme; "
                "give the folders of those to compare"
            )
    if not found:
        raise AdminError(f"--baseline {scheme}: no run is of this scheme")
    for row in rows:
        row.baseline = found.get((row.first.dataset, row.first.depth))


def _agree(a: Run, b: Run) -> bool:
    """Whether two runs belong to the same row: the settings that both have are equal."""
    shared = a.settings.keys() & b.settings.keys()
    return a.name == b.name and all(a.settings[key] == b.settings[key] for key in shared)


def _differences(row: Row, alike: Sequence[Row]) -> str:
    """List, as "name=value …", the options of ``row`` that differ from those of a row ``alike``.

    ``alike`` are rows of the same scheme and depth, with ``row``. If they have different optimisers
    (or schedules, …), the optimiser's name alone is listed, not its options.
    """
    words = []
    for option, value in row.first.settings.items():
        section, name = option.split(".", 1)
        values, parts = (
            {other.first.settings.get(key, own) for other in alike}
            for key, own in ((option, value), (f"{section}._name", ""))
        )
        if len(values) > 1 and (name == "_name" or len(parts) == 1):
            words.append(f"{section if name == '_name' else name}={value}")
    # an option may occur in several sections
    return shortened(" ".join(dict.fromkeys(words)), LONGEST_SETTINGS)


def _rank(value: Value) -> tuple[bool, bool, float, str]:
    """Return a sort key for a cell: numbers by their mean, NaN after them, empty cells last."""
    if isinstance(value, Number):
        return False, math.isnan(value.mean), value.mean, ""
    return not value, False, 0.0, value or ""


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """Format the table: a list of column names, then a list of cells for each row; columns with
    empty cells only are left out, except those in ``ALWAYS``."""
    columns = {
        name: [_cell(column.value(row), column.digits) for row in rows]
        for name, column in COLUMNS.items()
    }
    shown = [[name, *texts] for name, texts in columns.items() if name in ALWAYS or any(texts)]
    return [list(line) for line in zip(*shown)]


def _cell(value: Value, digits: int) -> str:
    """Format a value as a table cell; a number over several seeds as "mean±deviation"."""
    if not isinstance(value, Number):
        return value or ""
    return f"{value.mean:.{digits}f}" + ("" if value.std is None else f"±{value.std:.{digits}f}")


def notes(rows: Sequence[Row]) -> list[str]:
    """Return the notes below the table: units, verdicts, sacreBLEU signatures, sources of published
    scores."""
    sources = {row.published["source"]: None for row in rows if row.published}
    signatures = {
        f"{kind}: {score.signature}": None
        for row in rows
        for run in row.runs
        for kind, score in run.scores.items()
        if score.signature
    }
    baselines = sorted({row.baseline.first.scheme for row in rows if row.baseline})
    return [
        NOTE,
        f"Verdict, the first that holds: {RULE}.",
        *(f"Signature, {signature}" for signature in signatures),
        *(_about(baselines) if baselines else []),
        *(
            [f"Published, for the same data set, scheme and depth: {'; '.join(sources)}."]
            if sources
            else []
        ),
    ]


def _about(baselines: Sequence[str]) -> list[str]:
    """Return the notes on the columns that compare with a baseline."""
    return [
        f"Baseline: {', '.join(baselines)}, at the same data set and depth. Updates to baseline: "
        "until the validation loss is as low as its lowest (mean over its seeds). p: how probable "
        "so large a difference in detokenised BLEU is between equally good systems, of runs with "
        f"equal seeds ({BOOTSTRAP}); empty where the translations (test.hyp) or the prepared data "
        "are missing."
    ]


def _as_text(rows: Sequence[Row]) -> str:
    """Format the rows and notes as a plain text table with aligned columns."""
    table = [list(map(printable, line)) for line in cells(rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    return "\n".join([*lines, "", *(textwrap.fill(printable(note), 100) for note in notes(rows))])


def _as_markdown(rows: Sequence[Row]) -> str:
    """Format the rows and notes as a Markdown table."""
    head, *lines = (list(map(as_markdown, line)) for line in cells(rows))
    table = [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)]
    return "\n".join([*table, "", *(f"{as_markdown(note)}\n" for note in notes(rows))]).rstrip()


def _as_json(rows: Sequence[Row]) -> str:
    """Format the rows as JSON, with every logged loss and setting of each run."""
    content = {
        "notes": NOTE,
        "rule": {name: verdict.rule for name, verdict in VERDICTS.items()},
        "rows": [
            {
                **{name: _plain(column.value(row)) for name, column in COLUMNS.items()},
                "published": row.published,
                "runs": [_everything(run) for run in row.runs],
            }
            for row in rows
        ],
    }
    return as_json(content)


def _everything(run: Run) -> dict[str, Any]:
    """Return all that is known of a run, for the JSON format."""
    return {
        "folder": run.folder,
        "seed": run.seed,
        "verdict": run.verdict,
        "training": [[point.update, _plain(point.loss)] for point in run.log.training],
        "validation": [[point.update, _plain(point.loss)] for point in run.log.validation],
        "seconds_per_update": run.log.seconds_per_update,
        "settings": run.settings,
        "evaluation": asdict(run.evaluation) if run.evaluation else None,
        "profile": run.profile,
    }


def _plain(value: Any) -> Any:
    """Convert a value for JSON, which has no NaN or infinity: such numbers become None."""
    if isinstance(value, Number):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {key: _plain(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


FORMATS: dict[str, tuple[str, Callable[[Sequence[Row]], str]]] = {
    "text": ("txt", _as_text),
    "markdown": ("md", _as_markdown),
    "csv": ("csv", lambda rows: as_csv(cells(rows)).rstrip("\n")),
    "json": ("json", _as_json),
}
"""The values of --format: value → (file extension, function that formats the rows as text)."""


CURVES = ("dataset", "scheme", "depth", "settings", "seed", "folder", "curve", "update", "loss")


def curves(rows: Sequence[Row]) -> list[tuple]:
    """Return the lines of curves.csv: the column names, then a line for every logged loss."""
    return [
        CURVES,
        *(
            (*row.name, row.settings, run.seed, run.folder, curve, point.update, point.loss)
            for row in rows
            for run in row.runs
            for curve in ("training", "validation")
            for point in getattr(run.log, curve)
        ),
    ]
