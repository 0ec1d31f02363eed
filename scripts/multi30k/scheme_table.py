"""Read the logs of schemes.sh and print a Markdown table, lowest loss first.

python scheme_table.py TRAIN_TARGET RUNS: the split training target, and the folder of runs.
"""

from __future__ import annotations

import math
import re
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Iterable

HEAD = "| scheme | training loss | validation loss | | seconds/update |\n|---|---|---|---|---|"


def unigram_bits(lines: Iterable[str]) -> float:
    """The entropy of the pieces and sentence ends, counted alone, in bits per piece."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update([*line.split(), "</s>"])
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values())


def row(log: str, unigram: float) -> tuple[float, float, str, float]:
    """Training and validation loss (bits without label smoothing), verdict, seconds per update.

    The losses are those of the last logged interval and of the last validation. "diverged" is a
    loss that is not finite or higher than in the first interval; "stuck" is one that is less than
    a bit below ``unigram``: the model has learned little more than how frequent words are.
    """
    intervals = [line for line in log.splitlines() if "| train_inner |" in line]
    losses = [_number(r"nll_loss=([^,]+),", line) for line in intervals]
    validation = re.findall(r"\| valid \|.*?nll_loss (\S+)", log)
    if not losses:
        return math.nan, math.nan, "failed", math.nan
    verdict = ""
    if not losses[-1] <= losses[0]:
        verdict = "diverged"
    elif losses[-1] > unigram - 1:
        verdict = "stuck"
    return (
        losses[-1],
        float(validation[-1]) if validation else math.nan,
        verdict,
        _seconds(intervals),
    )


def _seconds(intervals: list[str]) -> float:
    """The median over pairs of intervals; fairseq's own updates per second have two digits."""
    done = [_number(r"num_updates=([^,]+),", line) for line in intervals]
    wall = [_number(r"wall=([^,\s]+)$", line) for line in intervals]
    pairs = zip(zip(done, wall), zip(done[1:], wall[1:]))
    times = [(w2 - w1) / (n2 - n1) for (n1, w1), (n2, w2) in pairs if n2 > n1 and w2 > w1]
    return statistics.median(times) if times else math.nan


def _number(pattern: str, line: str) -> float:
    return float(re.search(pattern, line).group(1))


def main(target: str, runs: str) -> None:
    with open(target, encoding="utf-8") as file:
        unigram = unigram_bits(file)
    logs = {path.parent.name: path.read_text() for path in Path(runs).glob("*/train.log")}
    rows = {name: row(log, unigram) for name, log in logs.items()}
    print(HEAD)
    for name, (training, validation, verdict, seconds) in sorted(
        rows.items(), key=lambda item: (math.isnan(item[1][0]), item[1][0])
    ):
        print(f"| `{name}` | {training:.2f} | {validation:.2f} | {verdict} | {seconds:.2f} |")
    print(f"\nLosses are bits per piece; the pieces' own frequencies have {unigram:.2f}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
