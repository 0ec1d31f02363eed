import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.corpora.streams import chunks, in_order, pairs, read_lines, writing
from admin_fairseq.errors import AdminError

LINES = st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",))))


@given(LINES)
def test_only_a_newline_ends_a_line(tmp_path_factory, lines):
    path = str(tmp_path_factory.mktemp("lines") / "text")
    with writing([path]) as write:
        for line in lines:
            write(line)
    assert list(read_lines(path)) == lines


@given(st.lists(st.integers()), st.integers(1, 5))
def test_chunks_hold_everything_in_order(items, size):
    made = list(chunks(items, size))
    assert list(itertools.chain(*made)) == items
    assert all(len(chunk) == size for chunk in made[:-1])


@given(st.integers(0, 9), st.integers(0, 9))
def test_unequal_sides_are_counted(left, right):
    both = pairs(["a"] * left, ["b"] * right, names=("x.de", "x.en"))
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
