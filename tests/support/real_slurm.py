"""A Slurm cluster of two nodes on this machine: a controller and two daemons, without root and without munge."""

import getpass
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tests.support.ports import free_ports
from tests.support.waiting import until

BIN = Path(sys.executable).parent
NODES = ("127.0.0.2", "127.0.0.3")
"""Names that resolve, as those of nodes do: the ranks of a task meet on the first."""

CONF = """\
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
PluginDir={plugins}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SlurmctldPidFile={home}/controller.pid
SlurmdPidFile={home}/%n.pid
SlurmdSpoolDir={home}/%n
StateSaveLocation={home}/state
SlurmctldLogFile={home}/controller.log
SlurmdLogFile={home}/%n.log
Epilog={epilog}
NodeName=127.0.0.[2-3] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=8 RealMemory=1000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class RealSlurm:
    """``unpacked`` is what ``stack.servers.find_slurm`` found; the epilog is a script."""

    def __init__(self, unpacked, home, epilog):
        self.home = home
        libraries = sorted(unpacked.glob("usr/lib/*-linux-gnu")) + sorted(unpacked.glob("lib/*-linux-gnu"))
        (plugins,) = unpacked.glob("usr/lib/*/slurm-wlm")
        self._sbin = unpacked / "usr/sbin"
        self.environment = os.environ | {
            "SLURM_CONF": str(home / "slurm.conf"),
            "PATH": os.pathsep.join([str(BIN), str(unpacked / "usr/bin"), os.environ["PATH"]]),
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, [*libraries, plugins])),
        }
        controller, first, last = free_ports(3)
        text = CONF.format(
            host=socket.gethostname(), controller=controller, user=getpass.getuser(), plugins=plugins, home=home,
            epilog=epilog, first=first, last=last,
        )  # fmt: skip
        (home / "slurm.conf").write_text(text)
        self._running = ExitStack()

    def __enter__(self):
        with self._running as starting:
            self._start(starting, "slurmctld", "-D")
            until(lambda: "is UP" in self("scontrol", "ping"), 30)
            for node in NODES:
                (self.home / node).mkdir()
                self._start(starting, "slurmd", "-D", "-N", node, "-d", self._program("slurmstepd"))
            until(lambda: self("sinfo", "-h", "-o", "%T").split() == ["idle"])
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_):
        with self._running:
            self("scancel", "--full", "--user", getpass.getuser())
            until(lambda: self("squeue", "-h") == "")

    def __call__(self, *command):
        """What a command prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout

    def submit(self, script, *arguments, options=(), **settings):
        """The id of a job, whose output goes to ``<id>.out``."""
        command = [
            "sbatch",
            "--parsable",
            f"--output={self.home}/%A.out",
            "--cpus-per-task=1",
            *options,
            script,
        ]
        done = subprocess.run(
            [*command, *arguments], env=self.environment | settings, cwd=self.home, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self, job):
        """Such as RUNNING; empty once it has ended."""
        return self("squeue", "-h", "-o", "%T", "-j", job).strip()

    def start_again(self, job):
        """A job that was requeued would wait for two minutes."""

        time.sleep(2)  # credentials count in seconds, and one of that in which the job ended is revoked

        def started():
            self("scontrol", "update", f"jobid={job}", "StartTime=now")
            return self.state(job) != "PENDING"

        until(started, every=0.5)

    def _program(self, name):
        return next(path for path in (self._sbin / f"{name}-wlm", self._sbin / name) if path.exists())

    def _start(self, stack, name, *arguments):
        with (self.home / f"{name}.said").open("ab") as said:
            command = [self._program(name), *arguments]
            process = subprocess.Popen(command, env=self.environment, stdout=said, stderr=said)
        stack.callback(process.wait, 60)
        stack.callback(process.terminate)
