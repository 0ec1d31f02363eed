"""Runs scripts in forks of a process that has imported fairseq, which takes some seconds.

    python warm.py DESCRIPTOR

A request on the socket DESCRIPTOR is the folder to run in, the environment and the words of the
command, as a JSON list, with descriptors for standard input, output and errors, and of a socket for
the exit status. The script itself is run, from its first line to the end of the interpreter; the
plugin is imported by what the script does, and by nothing else.
"""

import gc
import json
import logging
import os
import random
import runpy
import socket
import sys
import types

import fairseq
import fairseq.quantization_utils  # noqa: F401  by fairseq-train
import torch._dynamo  # noqa: F401  by an optimizer's first step, for more than a second

MOST = 1 << 16  # bytes of a request


def run(folder: str, environment: dict[str, str], *words: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # those of the server could perhaps seek, which a pipe cannot
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    how = {"encoding": sys.stdout.encoding, "errors": sys.stdout.errors, "closefd": False}
    sys.stdout = open(1, "w", **how)  # noqa: SIM115
    random.seed()  # else every run draws the same port
    if words[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *words[2:]], ""
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(words[1], vars(main))
        return
    sys.argv = list(words)
    sys.path[0] = os.path.dirname(words[0])
    if os.path.basename(words[0]) == "fairseq-train":
        # it alone sets logging up before it imports fairseq, which would have done so first
        logging.root.handlers.clear()
        logging.root.setLevel(logging.WARNING)
    runpy.run_path(words[0], run_name="__main__")


def serve(requests: socket.socket) -> None:
    """Fork for every request, and go on at once; only the forks that ran a script return."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, MOST, 4)
        if not request:
            return
        if not os.fork():
            requests.close()
            return answer(request, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def answer(request: bytes, *descriptors: int) -> None:
    """Run in a second fork; the first says how it ended."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        socket.socket(fileno=descriptors[3]).send(b"%d" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    run(*json.loads(request))


if __name__ == "__main__":
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
