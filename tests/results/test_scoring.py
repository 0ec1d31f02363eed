import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest
from sacrebleu import corpus_bleu, corpus_chrf

from admin_fairseq import cli
from admin_fairseq.errors import AdminError
from admin_fairseq.results.evaluation import read_evaluation
from admin_fairseq.results.references import read_references
from admin_fairseq.results.scoring import _split, bleu, compound_split, p_value, tokenised

REFERENCES = [
    "a well-known man sees the old house , and the tree .",
    "over the green river runs a woman of forty-two years .",
    "she sings under the trees .",
]
HYPOTHESES = [
    "a well-known man sees an old house and the tree .",
    "over the green river runs a woman of forty-three years .",
    "she sings under the trees .",
]


def test_tokenised_is_sacrebleus_score_of_the_words():
    score = tokenised(HYPOTHESES, REFERENCES)
    expected = corpus_bleu(HYPOTHESES, [REFERENCES], tokenize="none", force=True)
    assert score.score == expected.score
    assert "tok:none" in score.signature and "case:mixed" in score.signature


def test_compound_split_counts_the_parts():
    by_hand = [
        [line.replace("-", " ##AT##-##AT## ") for line in lines]
        for lines in (HYPOTHESES, REFERENCES)
    ]
    assert compound_split(HYPOTHESES, REFERENCES) == tokenised(*by_hand)
    assert compound_split(HYPOTHESES, REFERENCES).score > tokenised(HYPOTHESES, REFERENCES).score


def test_hyphens_are_split_as_fairseqs_script_does():
    assert _split("a-b-c d-e") == "a ##AT##-##AT## b-c d ##AT##-##AT## e"
    assert _split("well-known-to all") == "well ##AT##-##AT## known ##AT##-##AT## to all"


def test_a_hyphen_alone_is_left_in_peace():
    lines = ["he came - late - and left -so it seems- again"]
    assert compound_split(lines, lines) == tokenised(lines, lines)


@pytest.fixture
def data(tmp_path):
    """As much of a prepared folder as scoring reads."""
    folder = tmp_path / "data"
    folder.mkdir()
    made = {"dataset": "wmt14_en_de", "target": "en", "lowercase": False}
    (folder / "prepared.json").write_text(json.dumps(made))
    (folder / "test.words.en").write_text("It &apos;s a well @-@ known house , he said .\n" * 2)
    (folder / "test.raw.en").write_text("It's a well-known house, he said.\n" * 2)
    return folder


def score(data, tmp_path, lines, *words):
    (tmp_path / "hyp").write_text("".join(f"{line}\n" for line in lines))
    cli.main(["score", str(tmp_path / "hyp"), "--data-dir", str(data), *words])


def test_words_are_put_together_before_sacrebleu_sees_them(data, tmp_path, capsys):
    output = tmp_path / "evaluation.json"
    words = ["--output", str(output), "--beam", "4", "--lenpen", "0.6", "--averaged", "10"]
    score(data, tmp_path, ["It &apos;s a well @-@ known house , he said ."] * 2, *words)
    result = json.loads(output.read_text())
    assert result["dataset"] == "wmt14_en_de" and result["averaged"] == 10
    assert result["options"] == {"beam": 4, "lenpen": 0.6}
    assert list(result["bleu"]) == ["tokenised", "compound split", "detokenised"]
    assert all(s["score"] == pytest.approx(100) for s in result["bleu"].values())
    assert "tok:13a" in result["bleu"]["detokenised"]["signature"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("tokenised: 100.00  nrefs:1|") and len(printed) == 4


def test_case_counts_unless_the_data_has_none(data, tmp_path, capsys):
    lines = ["it &apos;s a well @-@ known house , he said ."] * 2
    score(data, tmp_path, lines)
    made = json.loads((data / "prepared.json").read_text())
    (data / "prepared.json").write_text(json.dumps({**made, "lowercase": True}))
    score(data, tmp_path, lines)
    scores = [
        float(line.split()[1]) for line in capsys.readouterr().out.splitlines() if "detok" in line
    ]
    assert scores[0] < 100 and scores[1] == 100


def test_plain_text_has_one_score(tmp_path, capsys):
    for name, lines in (("hyp", HYPOTHESES), ("ref", REFERENCES)):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    words = ["--reference", str(tmp_path / "ref"), "--dataset", "multi30k"]
    output = tmp_path / "out.json"
    cli.main(["score", str(tmp_path / "hyp"), *words, "--output", str(output)])
    result = json.loads(output.read_text())
    assert result["dataset"] == "multi30k"
    assert result["bleu"] == {"detokenised": asdict(bleu(HYPOTHESES, REFERENCES))}
    with pytest.raises(SystemExit, match="--force"):
        cli.main(["score", str(tmp_path / "hyp"), *words, "--output", str(output)])


def test_mistakes_are_told_in_one_line(data, tmp_path):
    with pytest.raises(SystemExit, match="1 translations for 2 references"):
        score(data, tmp_path, ["one"])
    with pytest.raises(SystemExit, match="not a folder of admin-fairseq prepare"):
        score(tmp_path, tmp_path, ["one"])
    with pytest.raises(SystemExit, match="nowhere: no such folder"):
        score(tmp_path / "nowhere", tmp_path, ["one"])
    with pytest.raises(SystemExit, match="--dataset needs --reference"):
        score(data, tmp_path, ["one"] * 2, "--dataset", "x")
    (data / "prepared.json").write_text("[]")
    with pytest.raises(SystemExit, match=r"prepared\.json: not "):
        score(data, tmp_path, ["one"])
    with pytest.raises(AdminError, match="nothing to score"):
        bleu([], [])
    with pytest.raises(SystemExit, match="hyp: cannot be read: No such file"):
        cli.main(["score", str(tmp_path / "no" / "hyp"), "--data-dir", str(data)])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (os.mkfifo, "not a regular file"),
        (os.mkdir, "directory|not a regular file"),
        (lambda path: path.write_bytes(b"\xff\xfea\0"), "not UTF-8"),
        (
            lambda path: path.write_text("word " * 30_000),
            "1 lines of up to 150,000",
        ),
        (lambda path: path.write_text("a\n" * 600_000), "600,000 lines"),
        (lambda path: path.write_text("word\n" * 4_000_000), "larger than 16 MiB"),
    ],
)
def test_what_is_no_translation_is_told(tmp_path, make, told):
    make(tmp_path / "hyp")
    words = ["score", str(tmp_path / "hyp"), "--reference", str(tmp_path / "hyp")]
    with pytest.raises(SystemExit, match=told):
        cli.main(words)


def test_results_reads_what_score_writes_of_any_name(tmp_path):
    (tmp_path / "hyp").write_text("a b c d\n")
    words = [str(tmp_path / "hyp"), "--reference", str(tmp_path / "hyp"), "--dataset", "\x1b\udcff"]
    output = str(tmp_path / "evaluation.json")
    cli.main(["score", *words, "--checkpoint", "\udcff.pt", "--output", output])
    found = read_evaluation(output)
    assert (found.dataset, found.checkpoint) == ("\\x1b\\udcff", "\\udcff.pt")


@pytest.mark.parametrize("option", ["beam", "averaged"])
@pytest.mark.parametrize("value", ["0", "1e3", "9" * 30, "9" * 5000])
def test_counts_have_bounds(tmp_path, option, value):
    with pytest.raises(SystemExit, match=f"--{option}") as error:
        cli.main(["score", "hyp", "--reference", "ref", f"--{option}", value])
    assert len(str(error.value)) < 400


def test_chrf_is_sacrebleus_on_plain_text(data, tmp_path, capsys):
    output = tmp_path / "evaluation.json"
    lines = ["It &apos;s a well @-@ known home , he said ."] * 2
    score(data, tmp_path, lines, "--output", str(output))
    expected = corpus_chrf(
        ["It's a well-known home, he said."] * 2, [["It's a well-known house, he said."] * 2]
    )
    found = read_evaluation(str(output)).chrf
    assert found.score == expected.score < 100 and found.signature.startswith("nrefs:1|case:mixed")
    assert f"chrF2: {expected.score:.2f}  {found.signature}" in capsys.readouterr().out


def worse(lines, every):
    """The lines, each of number ``every`` without its last word but one."""
    return [
        " ".join([*line.split()[:-2], line.split()[-1]]) if i % every == 0 else line
        for i, line in enumerate(lines)
    ]


def test_p_is_that_of_sacrebleus_own_program(tmp_path):
    """Its program prints four decimals."""
    references = [f"the {i} old houses stand by river {i * i} and wait ." for i in range(120)]
    systems = {"ref": references, "base": worse(references, 3), "new": worse(references, 4)}
    for name, lines in systems.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    words = ["ref", "-i", "base", "new", "--paired-bs", "-m", "bleu", "-f", "json", "--force"]
    done = subprocess.run(
        [sys.executable, "-m", "sacrebleu", *words], cwd=tmp_path, capture_output=True, check=True
    )
    theirs = json.loads(done.stdout)[1]["BLEU"]["p_value"]
    ours = p_value(systems["new"], systems["base"], references)
    assert round(ours, 4) == round(theirs, 4) and 0.01 < ours < 0.5


def test_equal_systems_do_not_differ(data, tmp_path, capsys):
    lines = ["It &apos;s a well @-@ known home , he said ."] * 2
    (tmp_path / "other").write_text("".join(f"{line}\n" for line in lines))
    score(data, tmp_path, lines, "--baseline", str(tmp_path / "other"))
    last = capsys.readouterr().out.splitlines()[-1]
    assert f", +0.00 against {tmp_path / 'other'}, p = 1.0000 (sacreBLEU's" in last


def test_a_difference_has_its_sign_and_is_of_plain_text_in_the_datas_case(data, tmp_path, capsys):
    worse, better = (
        "It &apos;s a well @-@ known home , he said .",
        "IT &apos;S a well @-@ known house .",
    )
    (tmp_path / "other").write_text(f"{worse}\n" * 2)
    made = json.loads((data / "prepared.json").read_text())
    (data / "prepared.json").write_text(json.dumps({**made, "lowercase": True}))
    score(data, tmp_path, ["It &apos;s a WELL @-@ known house , he said ."] * 2)
    assert "chrF2: 100.00" in capsys.readouterr().out
    references = read_references(str(data))
    plain = references.plain([worse, better])
    assert plain == ["It's a well-known home, he said.", "IT'S a well-known house."]
    how = {"lowercase": True}
    expected = p_value(plain, plain[::-1], references.text, **how)
    assert references.p_value([worse, better], [better, worse]) == expected
    score(data, tmp_path, [better] * 2, "--baseline", str(tmp_path / "other"))
    *_, last = capsys.readouterr().out.splitlines()
    old = references.bleu([worse] * 2)["detokenised"].score
    ours = references.bleu([better] * 2)["detokenised"].score
    assert last.startswith(f"detokenised: {ours:.2f}, {ours - old:+.2f} against ")


@pytest.mark.parametrize("seed", ["abc", "0", "none", ""])
def test_a_comparison_gives_one_number_whatever_the_environment(seed, monkeypatch):
    references = [f"the {i} old houses stand by river {i * i} and wait ." for i in range(60)]
    systems = worse(references, 3), worse(references, 4)
    expected = p_value(*systems, references)
    monkeypatch.setenv("SACREBLEU_SEED", seed)
    assert p_value(*systems, references) == expected
    assert os.environ["SACREBLEU_SEED"] == seed


def test_a_bootstrap_is_bounded_and_needs_two_whole_systems(data, tmp_path):
    with pytest.raises(AdminError, match="20,001 sentences: a paired bootstrap takes at most"):
        p_value(["a"] * 20_001, ["a"] * 20_001, ["a"] * 20_001)
    (tmp_path / "other").write_text("one\n")
    with pytest.raises(SystemExit, match="1 translations for 2 references"):
        score(data, tmp_path, ["one"] * 2, "--baseline", str(tmp_path / "other"))


@pytest.mark.parametrize("read", ["hyp", "ref"])
def test_scores_do_not_replace_what_they_are_computed_from(tmp_path, read):
    for name in ("hyp", "ref"):
        (tmp_path / name).write_text("a b c d e\n")
    hypotheses, reference, output = (str(tmp_path / name) for name in ("hyp", "ref", read))
    words = ["score", hypotheses, "--reference", reference, "--output", output, "--force"]
    with pytest.raises(SystemExit, match=f"{read}: is read; choose another --output"):
        cli.main(words)
    assert (tmp_path / read).read_text() == "a b c d e\n"
