import csv
import io
import json
import math
import os
import re
import statistics
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.errors import AdminError
from admin_fairseq.recipes import scores
from admin_fairseq.results.evaluation import Evaluation, Score
from admin_fairseq.results.logs import parse
from admin_fairseq.results.references import read_references, read_translations
from admin_fairseq.results.runs import VERDICTS, Run
from admin_fairseq.results.scoring import p_value
from admin_fairseq.results.significance import significance
from admin_fairseq.results.table import (
    COLUMNS,
    FORMATS,
    cells,
    curves,
    rows_of,
    summary,
)

from .conftest import log_of

as_text, as_markdown, as_csv, as_json = (FORMATS[name][1] for name in FORMATS)
FINITE = st.floats(-1e6, 1e6)


def run_of(losses=(12.5, 8.0, 5.0), bleu=None, **options):
    evaluation = Evaluation(bleu={"tokenised": Score(bleu, "tok:none")}) if bleu else None
    log = parse(log_of(losses, **options).splitlines(keepends=True))
    return Run(f"runs/{options}", log, evaluation)


def table_of(*runs, **how):
    head, *lines = cells(rows_of(runs, **how))
    return [dict(zip(head, line)) for line in lines]


@given(st.lists(FINITE, min_size=2).flatmap(lambda x: st.tuples(st.just(x), st.permutations(x))))
def test_summary_knows_no_order(values):
    one, other = map(summary, values)
    assert one == other
    assert one.mean == pytest.approx(statistics.mean(values[0]), abs=1e-6)


def test_summary():
    assert summary([1.0, None, 3.0]) == (2.0, math.sqrt(2))  # n - 1
    assert summary([1.0]) == (1.0, None)
    assert summary([None]) is None
    assert math.isnan(summary([1.0, math.inf]).mean)


def test_seeds_are_one_row():
    runs = [run_of([9, x], seed=seed, max_update=200) for seed, x in ((2, 5.0), (1, 7.0))]
    (row,) = table_of(*runs)
    assert row["seeds"] == "1 2"
    assert row["training loss"] == "6.00±1.41"
    assert row["validation loss"] == "5.25±0.00" and row["at update"] == "150±0"
    assert row["seconds/update"] == "0.500±0.000"
    assert row["verdict"] == "2 of 2 unfinished"
    assert "settings" not in row and "BLEU tokenised" not in row


def test_diverged_runs_are_counted_and_left_out():
    sound = [run_of(seed=seed, bleu=bleu) for seed, bleu in ((1, 30.0), (2, 32.0))]
    broken = run_of([9.0, 8.0, math.nan], seed=3, bleu=0.5)
    (row,) = table_of(*sound, broken)
    assert row["BLEU tokenised"] == "31.00±1.41"
    assert row["training loss"] == "5.00±0.00"
    assert row["verdict"] == "1 of 3 diverged"
    (alone,) = table_of(broken)
    assert (alone["training loss"], alone["verdict"]) == ("nan", "diverged")
    assert "BLEU tokenised" not in alone


def test_settings_tell_rows_apart():
    rates = [run_of(lr=lr) for lr in (0.001, 0.0005)]
    rows = table_of(*rates, run_of(layers=12), run_of(seed=2))
    assert [row["settings"] for row in rows] == ["lr=0.001", "lr=0.0005", ""]
    assert [row["seeds"] for row in rows] == ["1 2", "1", "1"]


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        ({"_name": "adam", "adam_betas": "(0.9, 0.99)"}, "optimizer=adam"),  # says it all
        ({"_name": "radam", "adam_betas": "(0.9, 0.99)"}, "adam_betas=(0.9, 0.99)"),
    ],
)
def test_another_optimizer_is_told_by_its_name(optimizer, settings):
    other = run_of()
    other.log.config["optimizer"] = optimizer
    assert table_of(run_of(), other)[1]["settings"] == settings


def test_option_of_a_later_version_is_no_difference():
    later = run_of(seed=2)
    later.log.config["dataset"]["brand_new"] = True
    assert len(table_of(run_of(), later)) == 1


def test_settings_have_a_bound():
    runs = [run_of(), run_of()]
    for sign, run in zip((1, -1), runs):
        run.log.config["dataset"].update({f"option{i}": sign * i for i in range(999)})
    assert all(len(row["settings"]) < 600 for row in table_of(*runs))


def test_failed_runs_are_told_by_their_folders():
    rows = table_of(*(Run(name, parse([])) for name in ("a", "b")))
    assert [(row["settings"], row["verdict"]) for row in rows] == [
        ("folder=a", "unreadable"),
        ("folder=b", "unreadable"),
    ]


def test_order():
    runs = [
        run_of([9, 4, 3], layers=12, init_type="deepnet"),
        run_of([9, 4, math.nan], init_type="tfixup"),
        run_of([9, 4, 2], init_type="deepnet"),
        Run("folder", parse([])),
    ]
    assert [(row["scheme"], row["depth"]) for row in table_of(*runs)] == [
        ("?", "?"),
        ("deepnet", "6L-6L"),
        ("tfixup", "6L-6L"),
        ("deepnet", "12L-12L"),
    ]
    losses = [row["training loss"] for row in table_of(*runs, sort="training loss")]
    assert losses == ["2.00", "3.00", "nan", ""]
    schemes = [row["scheme"] for row in table_of(*runs, sort="scheme")]
    assert schemes == ["?", "deepnet", "deepnet", "tfixup"]


def test_published_scores():
    model = run_of().model
    score = partial(scores.score, model=model)
    assert scores.text(score("iwslt14_de_en", "admin", (6, 6))) == "35.67±0.15"
    assert scores.text(score("wmt14_en_de", "postln", (18, 18))) == "diverged"
    assert score("wmt14_en_de", "admin", (0, 18)) is None
    rows = rows_of([run_of(bleu=30.0)])
    text = as_text(rows)
    assert "35.67±0.15" in text and "depth: Admin, Table 3." in text
    assert text.count("Signature, tokenised: tok:none") == 1


@pytest.mark.parametrize(
    ("layers", "scale", "trained", "bleu"),
    [
        *((6, "O(1)", False, "27.71"), (6, "O(1)", True, "27.79")),
        *((6, "O(logn)", False, "27.83"), (6, "O(logn)", True, "27.84")),
        *((18, "O(1)", False, "28.66"), (18, "O(1)", True, "28.89")),
        *((18, "O(logn)", False, "28.78"), (18, "O(logn)", True, "28.91")),
        (100, "O(logn)", True, "29.65"),
        # not published
        *((6, "O(n)", True, ""), (100, "O(logn)", False, ""), (100, "O(1)", True, "")),
        (6, None, None, ""),
    ],
)
def test_a_published_score_is_that_of_the_runs_options(layers, scale, trained, bleu):
    run = run_of(layers=layers, init_type="admin-torch", data="/data/wmt14_en_de/bin")
    run.log.config["model"].update(output_change_scale=scale, omega_trainable=trained)
    assert scores.text(rows_of([run])[0].published) == bleu


@pytest.mark.parametrize("render", [as_text, as_markdown])
def test_rule_is_under_the_table(render):
    text = " ".join(render(rows_of([run_of()])).split())
    assert all(verdict.rule in text for verdict in VERDICTS.values())


def test_markdown_and_csv_have_the_cells():
    rows = rows_of([run_of(), run_of(init_type="tfixup")])
    rows[0].settings = "a|b"
    lines = as_markdown(rows).split("\n\n")[0].splitlines()
    assert lines[0].startswith("| dataset | scheme | depth | settings |")
    assert lines[2].startswith(r"| iwslt14_de_en | admin | 6L-6L | a\|b |")
    assert list(csv.reader(io.StringIO(as_csv(rows)))) == cells(rows)


def test_json_has_everything_and_no_nan():
    runs = [run_of([9.0, math.inf, math.nan], seed=1), run_of(seed=2, bleu=30.0)]
    found = json.loads(as_json(rows_of(runs)), parse_constant=pytest.fail)
    (row,) = found["rows"]
    assert found["rule"] == {name: verdict.rule for name, verdict in VERDICTS.items()}
    assert set(COLUMNS) < set(row)
    assert row["training loss"] == {"mean": 5.0, "std": None}
    assert [run["verdict"] for run in row["runs"]] == ["diverged", ""]
    assert row["runs"][0]["training"] == [[50, 9.0], [100, None], [150, None]]
    assert row["runs"][1]["evaluation"]["bleu"]["tokenised"]["signature"] == "tok:none"
    assert row["published"]["source"] == "Admin, Table 3"


def test_curves_have_every_point():
    head, *points = curves(rows_of([run_of()]))
    assert len(points) == 5
    assert dict(zip(head, points[-1]))["curve"] == "validation"
    assert points[-1][-2:] == (150, 5.25)


def named(name):
    """A table of a run whose names are all ``name``."""
    run = run_of()
    run.evaluation = Evaluation(name, bleu={"tokenised": Score(1.0, name)})
    return rows_of([run])


@pytest.mark.parametrize(("render", "lines"), [(as_text, 2), (as_markdown, 3), (as_csv, 2)])
def test_any_name_stands_in_one_line(render, lines):
    text = render(named("a|b\n\n# c\x1b[2J\ud800"))
    text.encode()
    assert len(text.split("\n\n")[0].splitlines()) == lines
    assert "\x1b" not in text and "\n# c" not in text


def test_json_has_names_as_they_are():
    text = as_json(named("\n\x1b\x7f\ud800"))
    assert text.isascii() and "\x7f" not in text
    assert json.loads(text)["rows"][0]["dataset"] == "\n\x1b\x7f\ud800"


def test_names_are_neither_markup_nor_formulas():
    assert "<" not in as_markdown(named("<script>"))
    assert as_csv(named("=HYPERLINK(1)")).splitlines()[1].startswith(r"\x3dHYPERLINK(1),")


def test_other_rows_are_compared_with_a_baseline(tmp_path):
    """By updates until its lowest validation loss, and by BLEU of runs with the same seed."""
    runs = [
        translated_run(tmp_path, "tfixup", 1, valid=(5.5, 5.25), wrong=10),
        translated_run(tmp_path, "tfixup", 2, valid=(5.5, 5.5), wrong=10),
        translated_run(tmp_path, "preln", 1, valid=(5.25, 5.0), wrong=40),
        translated_run(tmp_path, "preln", 3, valid=(5.5, 5.0), wrong=40),
    ]
    base, other = table_of(*runs, baseline="tfixup")
    # its lowest loss on average, 5.375, is reached at update 150, and by the second seed never
    assert (base["updates to baseline"], base["p"]) == ("reached by 1 of 2", "")
    assert other["updates to baseline"] == "150±1"
    expected = p_value(*([words(n) for n in (40, 10)]), words(0))
    assert other["p"] == f"seed 1: {expected:.3f}"
    assert "updates to baseline" not in table_of(*runs)[0]
    assert "Baseline: tfixup, at the same" in as_text(rows_of(runs, baseline="tfixup"))
    (tmp_path / "data" / "prepared.json").unlink()
    assert "p" not in table_of(*runs, baseline="tfixup")[0]
    alone = table_of(runs[2], runs[0], baseline="tfixup")[0]
    assert alone["updates to baseline"] == "149"  # as low is low enough


def test_runs_are_compared_on_one_test_set_and_sound_ones_only(tmp_path):
    runs = [
        translated_run(tmp_path, "tfixup", 1, valid=(5.5,), wrong=10),
        translated_run(tmp_path, "preln", 1, valid=(5.5,), wrong=40),
    ]
    assert table_of(*runs, baseline="tfixup")[1]["p"]
    other = tmp_path / "elsewhere" / "data"
    other.mkdir(parents=True)
    for name in ("prepared.json", "test.raw.en"):
        (other / name).write_bytes((tmp_path / "data" / name).read_bytes())
    runs[1].log.config["task"]["data"] = f"{other}/bin"
    assert table_of(*runs, baseline="tfixup")[1]["p"]  # a copy
    (other / "test.raw.en").write_text("".join(f"{line} .\n" for line in words(0)))
    assert significance(runs[1], runs[0]) is None
    runs[1].log.config["task"]["data"] = f"{tmp_path}/data/bin"
    runs[1].log.overflowed = True
    del runs[1].verdict  # as it was before
    assert "p" not in table_of(*runs, baseline="tfixup")[1]


def test_a_baseline_is_of_the_same_data_and_depth():
    runs = [run_of(init_type="tfixup", layers=n) for n in (6, 12)]
    runs += [run_of(init_type="preln", layers=n) for n in (6, 12, 18)]
    rows = rows_of(runs, baseline="tfixup")
    depths = [(row.first.depth, row.baseline and row.baseline.first.depth) for row in rows]
    assert all(other in (depth, None) for depth, other in depths)
    assert [other for depth, other in depths if depth == "18L-18L"] == [None]


def test_chrf_has_its_column():
    run = run_of(bleu=30.0)
    run.evaluation = replace(run.evaluation, chrf=Score(55.5, "nc:6"))
    assert table_of(run)[0]["chrF2"] == "55.50"
    assert "Signature, chrF2: nc:6" in as_text(rows_of([run]))


def words(wrong):
    """A test set of 100 sentences, ``wrong`` of them without a word."""
    whole = [f"the {i} old houses stand by river {i * i} and wait ." for i in range(100)]
    return [line.replace(" stand", "") if i < wrong else line for i, line in enumerate(whole)]


def test_no_p_against_other_data_than_those_of_the_score(tmp_path, caplog):
    """A relative path of data leads elsewhere from another folder."""
    runs = [
        translated_run(tmp_path, scheme, 1, valid=(6.0,), wrong=wrong)
        for scheme, wrong in (("tfixup", 20), ("preln", 40))
    ]
    references = read_references(str(tmp_path / "data"))
    for run in runs:
        found = references.detokenised(read_translations(os.path.join(run.folder, "test.hyp")))
        run.evaluation = Evaluation(bleu={"detokenised": found})
    assert significance(*runs) is not None
    lines = (tmp_path / "data" / "test.raw.en").read_text().splitlines(keepends=True)
    (tmp_path / "data" / "test.raw.en").write_text("".join(reversed(lines)))
    assert significance(*runs) is None
    assert "in its evaluation.json: no p" in caplog.text


def translated_run(tmp_path, scheme, seed, valid, wrong):
    """A run with test.hyp in its folder, and with prepared data."""
    data, folder = tmp_path / "data", tmp_path / f"{scheme}{seed}"
    folder.mkdir()
    data.mkdir(exist_ok=True)
    made = {"dataset": "toy", "target": "en", "lowercase": False, "tokenised": False}
    (data / "prepared.json").write_text(json.dumps(made))
    (data / "test.raw.en").write_text("".join(f"{line}\n" for line in words(0)))
    (folder / "test.hyp").write_text("".join(f"{line}\n" for line in words(wrong)))
    log = log_of(valid=valid, init_type=scheme, seed=seed, data=f"{data}/bin")
    return Run(str(folder), parse(log.splitlines(keepends=True)))


@pytest.mark.parametrize(
    ("schemes", "lrs", "told"),
    [
        (["preln"], [1], "--baseline tfixup: no run is of this scheme"),
        (["tfixup", "tfixup"], [1, 2], "several rows of iwslt14_de_en, 6L-6L, are of this scheme"),
    ],
)
def test_a_baseline_is_one_row(schemes, lrs, told):
    runs = [run_of(init_type=scheme, lr=lr) for scheme, lr in zip(schemes, lrs)]
    with pytest.raises(AdminError, match=told):
        rows_of(runs, baseline="tfixup")


def test_hours_are_those_of_all_updates():
    lines = log_of().splitlines(keepends=True)
    run = Run("folder", parse(lines))
    assert run.log.hours == run.log.seconds_per_update * 150 / 3600 > 0
    later = partial(re.sub, "num_updates=([0-9]+)", lambda m: f"num_updates={int(m[1]) + 9000}")
    late = list(map(later, lines))  # a log that begins with a resumption
    assert parse(late).hours == pytest.approx(run.log.hours)
    assert parse(lines[:2]).hours is None
