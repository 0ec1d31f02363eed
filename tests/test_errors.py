import pickle

import pytest

from admin_fairseq.errors import AdminError, blaming, exit_in_one_line, printable, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b é 漢 =", "a b é 漢 ="),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp", r"\u202egnp"),
        ("\u2028", r"\u2028"),
        ("\udcff", r"\udcff"),
        ("\uffff", r"\uffff"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown
    assert str(AdminError(text)) == shown


def test_an_error_comes_from_another_process_as_it_is():
    error = pickle.loads(pickle.dumps(AdminError("in.pt: damaged")))
    assert (str(error), error.message) == ("in.pt: damaged", "in.pt: damaged")


def test_an_error_is_an_exception_like_any_other():
    with pytest.raises(Exception, match=r"^in\.pt: damaged$") as caught:
        raise AdminError("in.pt: damaged")
    assert not isinstance(caught.value, ValueError)  # which argparse and msgspec reword


def test_an_error_at_the_door_is_a_line_and_status_1():
    told = pytest.raises(SystemExit, match=r"^admin-fairseq: error: in\.pt: damaged$")
    with told, exit_in_one_line():
        raise AdminError("in.pt: damaged")
    with pytest.raises(ValueError), exit_in_one_line():
        raise ValueError


def test_errors_inside_blame_a_file():
    with pytest.raises(AdminError, match=r"^in.pt: --beam is 0$"), blaming("in.pt"):
        raise AdminError("--beam is 0")


def test_long_messages_lose_their_middle():
    assert shortened("x" * 20, 20) == "x" * 20
    assert shortened("a" * 10 + "b" * 5 + "c" * 10, 20) == (
        "a" * 10 + " ... (5 characters left out) ... " + "c" * 10
    )
    message = str(AdminError("/path/to/file: holds " + "9" * 100_000_000))
    assert "/path/to/file: holds 9" in message
    assert len(message) < 2100
