"""A Slurm cluster of two nodes on this machine, for root where Slurm and munge are installed."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from .test_workers import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sinfo")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
WHY_NOT = f"not installed: {', '.join(MISSING)}" if MISSING else "needs root"
HERE = socket.gethostname()  # the workers meet on the first node, so its name must have an address
NODES = (HERE, f"{HERE}-2")
CONF = """\
ClusterName=two
SlurmctldHost={here}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmctldPort={ports[0]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
NodeName={nodes[0]} NodeHostname={here} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName={nodes[1]} NodeHostname={here} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=all Nodes={nodes[0]},{nodes[1]} Default=YES State=UP
"""


def available():
    return not MISSING and os.geteuid() == 0


@contextmanager
def cluster():
    """Start the cluster; yield the variables with which srun finds it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # the path of a socket must be short
    conf = folder / "slurm.conf"
    ports = [free_port() for _ in range(3)]
    conf.write_text(CONF.format(here=HERE, folder=folder, nodes=NODES, ports=ports))
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    files = {"key-file": "key", "socket": "munge", "pid-file": "munge.pid", "log-file": "munge.log"}
    munge = [f"--{option}={folder / name}" for option, name in files.items()]
    commands = [
        ["munged", "--foreground", "--force", f"--seed-file={folder}/seed", *munge],
        ["slurmctld", "-D"],
        *(["slurmd", "-D", "-N", node] for node in NODES),
    ]
    daemons = []
    try:
        for command in commands:
            silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            daemons.append(subprocess.Popen(command, env=environment, **silent))
            time.sleep(0.5)
        wait_for_nodes(environment)
        yield {"SLURM_CONF": str(conf)}
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(60)
        shutil.rmtree(folder)


def wait_for_nodes(environment, seconds=30):
    end = time.monotonic() + seconds
    states = []
    while states != ["idle"] * len(NODES):
        assert time.monotonic() < end, states
        listed = ["sinfo", "--noheader", "--Node", "--format=%T"]
        states = subprocess.run(listed, env=environment, capture_output=True, text=True).stdout
        states = states.split()
        time.sleep(0.2)
