"""Runs console scripts in forks of a process that has imported fairseq, which takes three seconds.

    python warm.py DESCRIPTOR

A request on the socket DESCRIPTOR is the folder to run in and the words of the command, as a JSON
list, with descriptors for standard input, output and errors; the answer is the exit status. The
script itself is run, from its first line to
the end of the interpreter; the plugin is imported by what the script does, and by nothing else.
"""

import gc
import json
import logging
import os
import random
import runpy
import socket
import sys

import fairseq  # noqa: F401

MOST = 1 << 16  # bytes of a request


def run(folder: str, *words: str) -> None:
    os.chdir(folder)
    # those of the server could perhaps seek, which a pipe cannot
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    how = {"encoding": sys.stdout.encoding, "errors": sys.stdout.errors, "closefd": False}
    sys.stdout = open(1, "w", **how)  # noqa: SIM115
    sys.argv = list(words)
    sys.path[0] = os.path.dirname(words[0])
    random.seed()  # else every run draws the same port
    if os.path.basename(words[0]) == "fairseq-train":
        # it alone sets logging up before it imports fairseq, which would have done so first
        logging.root.handlers.clear()
        logging.root.setLevel(logging.WARNING)
    runpy.run_path(words[0], run_name="__main__")


def serve(requests: socket.socket) -> None:
    while True:
        request, streams, _, _ = socket.recv_fds(requests, MOST, 3)
        if not request:
            return
        child = os.fork()
        if not child:
            requests.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            run(*json.loads(request))
            return
        for stream in streams:
            os.close(stream)
        _, status = os.waitpid(child, 0)
        requests.send(b"%d" % os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
