import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.corpora.streams import (
    LONGEST_LINE,
    chunks,
    in_order,
    pairs,
    read_lines,
    writing,
)
from admin_fairseq.errors import AdminError

LINES = st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",))))


@given(LINES)
def test_only_a_newline_ends_a_line(tmp_path_factory, lines):
    path = str(tmp_path_factory.mktemp("lines") / "text")
    with writing([path]) as write:
        for line in lines:
            write(line)
    assert list(read_lines(path)) == lines


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9))), st.integers(1, 5))
def test_chunks_hold_everything_in_order(both, size):
    made = list(chunks(both, size))
    assert list(itertools.chain(*made)) == both
    assert all(len(chunk) == size for chunk in made[:-1])


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9))), st.integers(0, 20))
def test_chunks_are_small_where_lines_are_long(both, characters):
    made = list(chunks(both, characters=characters))
    assert list(itertools.chain(*made)) == both
    assert all(sum(map(len, itertools.chain(*chunk[:-1]))) <= characters for chunk in made)


@given(st.integers(0, 9), st.integers(0, 9))
def test_unequal_sides_are_counted(left, right):
    texts = {"x.de": ["a"] * left, "x.en": ["b"] * right}
    both = pairs(("x.de", "x.en"), lambda path: iter(texts[path]))
    if left == right:
        assert list(both) == [("a", "b")] * left
    else:
        with pytest.raises(AdminError, match=f"x.de has {left} sentences, x.en has {right}"):
            list(both)


def slow_square(number):
    return number * number


def test_workers_keep_the_order_and_do_not_run_ahead():
    taken = []

    def numbers():
        for number in range(50):
            taken.append(number)
            yield number

    results = in_order(slow_square, numbers(), workers=2)
    assert next(results) == 0
    assert len(taken) < 10  # memory stays flat: the rest was not read yet
    assert list(results) == [number**2 for number in range(1, 50)]


def test_files_appear_together_or_not_at_all(tmp_path):
    paths = [str(tmp_path / name) for name in ("a", "b")]
    with pytest.raises(RuntimeError), writing(paths) as write:
        write("1", "2")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_line_that_is_far_too_long(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"a\n" + b"x" * (LONGEST_LINE - 1) + b"\n")
    assert [len(line) for line in read_lines(str(path))] == [1, LONGEST_LINE - 1]
    path.write_bytes(b"a\n" + b"\xc3\xbc" * LONGEST_LINE)
    with pytest.raises(AdminError, match="text, line 2: longer than 1 MiB"):
        list(read_lines(str(path)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "not a regular file"),
        (os.mkdir, "Is a directory"),
        (lambda path: None, "No such file"),
    ],
)
def test_what_is_no_file_is_told_at_once(tmp_path, make, message):
    make(tmp_path / "text")
    with pytest.raises(AdminError, match=f"text: cannot be read: {message}"):
        list(read_lines(str(tmp_path / "text")))
