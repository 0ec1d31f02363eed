"""README's "Your own data": from two text files to a table, step by step."""


def test_from_two_text_files_to_a_table(run, data, tmp_path):
    own, runs = tmp_path / "own", tmp_path / "checkpoints"
    words = ["--source", "de", "--target", "en", "--data-dir", own, "--bpe-size", 48]
    printed = run("admin-fairseq", "prepare", "--text", data.parent / "train", *words)
    assert "576 train, 12 valid, 12 test pairs" in printed
    sizes = ["--max-update", 3, "--no-epoch-checkpoints"]
    run.train(own / "bin", runs / "tiny", *sizes, validate=True)
    undone = ["--user-dir", "admin_fairseq", "--remove-bpe", "sentencepiece"]
    output = run.generate(own / "bin", runs / "tiny" / "checkpoint_best.pt", *undone)
    (tmp_path / "test.out").write_text(output, encoding="utf-8")
    evaluation = runs / "tiny" / "evaluation.json"
    words = [tmp_path / "test.out", "--data-dir", own, "--output", evaluation]
    assert run("admin-fairseq", "score", *words).startswith("detokenised: ")
    head, row, *_ = run("admin-fairseq", "results", runs).splitlines()
    assert row.split()[:3] == ["own", "admin", "3L-2L"] and "sacreBLEU detokenised" in head
