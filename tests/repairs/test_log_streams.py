import io
import logging

import pytest


@pytest.fixture
def written():
    """What a log whose stream has this encoding makes of a message."""

    def write(message, encoding):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
        logger = logging.Logger("apart")
        logger.addHandler(logging.StreamHandler(stream))
        logger.warning(message)
        return stream.buffer.getvalue().decode(encoding)

    return write


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", "ω é"), ("latin-1", r"\u03c9 é"), ("ascii", r"\u03c9 \xe9")],
)
def test_what_the_encoding_lacks_is_escaped(encoding, expected, written, capsys):
    assert written("ω é", encoding) == f"{expected}\n"
    assert "Logging error" not in capsys.readouterr().err


def test_names_that_are_no_text_are_escaped(written, capsys):
    assert written("caf\udce9", "utf-8") == "caf\\udce9\n"
    assert "Logging error" not in capsys.readouterr().err


def test_a_stream_without_an_encoding_takes_all():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.emit(logging.LogRecord("name", logging.INFO, "", 0, "ω", None, None))
    assert stream.getvalue() == "ω\n"
