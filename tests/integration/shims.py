"""Programs run in warm processes (warm.py), also where a shell finds them on PATH."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from functools import cache, partial
from pathlib import Path

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
LONGEST = 300  # seconds
PROGRAMS = (
    *("admin-fairseq", "fairseq-train", "fairseq-generate", "fairseq-interactive"),
    *("fairseq-eval-lm", "fairseq-hydra-train", "fairseq-preprocess"),
)
AT_START = ("OMP_NUM_THREADS", "PYTHONIOENCODING", "PYTHONWARNINGS")
"""Variables that count when Python starts or torch is imported, and not later."""
# starts in hundredths of a second, as it imports next to nothing
SHIM = """\
#!{python} -IS
import json, os, socket, sys
address = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
address.connect({address!r})
words = [os.getcwd(), dict(os.environ), os.path.basename(sys.argv[0]), *sys.argv[1:]]
socket.send_fds(address, [json.dumps(words).encode()], [0, 1, 2])
sys.exit(int(address.recv(16)))
"""


@cache
def server(*values):
    """A socket for requests to warm.py, started with these values of AT_START."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    given = {name: value for name, value in zip(AT_START, values) if value is not None}
    with theirs:
        subprocess.Popen(
            [sys.executable, ROOT / "tests/integration/warm.py", str(theirs.fileno())],
            env={**{k: v for k, v in os.environ.items() if k not in AT_START}, **given},
            pass_fds=[theirs.fileno()],
            stderr=subprocess.DEVNULL,
        )
    return ours


def warm(folder, environment, words, streams):
    """Run a script, or ``-c`` and a program, on descriptors of standard input, output and errors;
    return its exit status."""
    requests = server(*map(environment.get, AT_START))
    request = json.dumps([str(folder), dict(environment), *map(str, words)]).encode()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            socket.send_fds(requests, [request], [*streams, theirs.fileno()])
        ours.settimeout(LONGEST)
        return int(ours.recv(16))


def captured(folder, environment, *words, stdin=os.devnull):
    """Exit status, standard output and errors of what ``warm`` runs."""
    new = partial(tempfile.TemporaryFile, "w+")
    with open(stdin) as given, new() as output, new() as errors:
        streams = [given, output, errors]
        status = warm(folder, environment, words, [stream.fileno() for stream in streams])
        for stream in (output, errors):
            stream.seek(0)
        return status, output.read(), errors.read()


def one_thread():
    """This environment, for a command that shares its processor with others."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def python(program, *words, folder=ROOT):
    """``python -c program`` where fairseq is imported, and not yet the plugin; returns what
    ``subprocess.run`` would."""
    found = captured(folder, one_thread(), "-c", program, *words)
    return subprocess.CompletedProcess(["-c", program, *words], *found)


class Shims:
    """A folder for PATH, and the threads that run what is called there.

    ``arguments`` makes those that a program is run with from its name and those of the caller.
    """

    def __init__(self, folder, environment, arguments=lambda name, words: words):
        self.environment = {**environment, "PATH": f"{folder}{os.pathsep}{environment['PATH']}"}
        self.arguments = arguments
        address = str(folder / "socket")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(address)
        self.listener.listen()
        for program in PROGRAMS:
            (folder / program).write_text(SHIM.format(python=sys.executable, address=address))
            (folder / program).chmod(0o755)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            caller, _ = self.listener.accept()
            threading.Thread(target=self.answer, args=[caller], daemon=True).start()

    def answer(self, caller):
        """Run what a shim was called with, on its streams."""
        request, streams, _, _ = socket.recv_fds(caller, 1 << 16, 3)
        folder, environment, name, *words = json.loads(request)
        words = [BIN / name, *self.arguments(name, words)]
        status = warm(folder, environment, words, streams)
        for stream in streams:
            os.close(stream)
        caller.send(b"%d" % status)
