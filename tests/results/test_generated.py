import pytest

from admin_fairseq import cli
from admin_fairseq.errors import AdminError
from admin_fairseq.results.generated import translations

WHOLE = """\
S-2\tdrei
T-2\tthree words here now
H-2\t-0.25\tthree words here now
D-2\t-0.25\tthree words here now .
P-2\t-0.1 -0.4
S-0\teins
T-0\tone
H-0\t-1e-05\tone
D-0\t-1e-05\tone .
P-0\t-0.1
H-1\t-0.5\t
D-1\t-0.5\t
2026-11-26 21:00:00 | INFO | fairseq_cli.generate | NOTE: hypothesis and token scores
Generate test with beam=4: BLEU4 = 1.00, 2.0/1.0/0.5/0.1
""".splitlines()
H = [line for line in WHOLE if line.startswith("H-")]
CUT = ["\t".join(line.split("\t")[::2]) for line in H]  # cut -f1,3


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (WHOLE, ["one .", "", "three words here now ."]),
        (H, ["one", "", "three words here now"]),
        ([line[2:] for line in H], ["one", "", "three words here now"]),
        (CUT, ["one", "", "three words here now"]),
        (["plain", "12 words\tand a tab", ""], ["plain", "12 words\tand a tab", ""]),
        (["1\t2.5\tx", "1\t2.5\ty", "plain"], ["1\t2.5\tx", "1\t2.5\ty", "plain"]),
        ([], []),
    ],
)
def test_translations_are_found_and_sorted(lines, expected):
    assert translations(lines) == expected


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line.split("\t", 1)[1] for line in H], "without the number of the sentence"),
        ([line for line in WHOLE if line[:2] in ("S-", "T-")], "without its translations"),
        (H[:2], "sentence 1 has no translation.*--required-batch-size-multiple 1"),
        ([*H, *H], "6 translations of 3 sentences.*--nbest"),
    ],
)
def test_what_cannot_be_ordered_is_refused_in_one_line(lines, message):
    with pytest.raises(AdminError, match=message):
        translations(lines)


def test_output_as_it_is_has_the_score_of_its_text(tmp_path, capsys):
    texts = [line.split("\t")[2] for line in H]
    for name, lines in (
        ("out", WHOLE),
        ("ref", [f"{texts[i]} ." if texts[i] else "" for i in (1, 2, 0)]),
    ):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    cli.main(["score", str(tmp_path / "out"), "--reference", str(tmp_path / "ref")])
    assert capsys.readouterr().out.startswith("detokenised: 100.00")
