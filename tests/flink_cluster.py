"""A real Flink cluster on loopback: JobManager, TaskManagers and Beam's worker pool as processes.

There is no container here, so that workers run in Beam's EXTERNAL environment: beside each
TaskManager a pool starts Python workers, as in the pods of a real cluster. All pools have the same
name and port; which address the name has depends on who asks (Java's `jdk.net.hosts.file`).
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from pipeline.flink_jobs import FlinkJob, cancel_job, find_active_jobs

PROJECT = Path(__file__).parent.parent
JARS = PROJECT / ".flink"
FAULTY = Path(__file__).parent / "faulty_workers"
POOL_HOST = "worker-pool"
CACHE_MS = 4000
START_S = 180
# What Flink's own scripts pass to Java 17 (env.java.opts.all of its configuration).
JAVA_OPTIONS = [
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    *(
        f"--add-opens=java.base/{package}=ALL-UNNAMED"
        for package in (
            "java.lang",
            "java.net",
            "java.io",
            "java.nio",
            "sun.nio.ch",
            "java.lang.reflect",
            "java.text",
            "java.time",
            "java.util",
            "java.util.concurrent",
            "java.util.concurrent.atomic",
            "java.util.concurrent.locks",
        )
    ),
]
# A TaskManager started without Flink's shell scripts is told its memory in full.
TASK_MANAGER_MEMORY = {
    "taskmanager.cpu.cores": "1.0",
    "taskmanager.memory.task.heap.size": "256m",
    "taskmanager.memory.task.off-heap.size": "64m",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.managed.size": "128m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "192m",
    "taskmanager.memory.jvm-overhead.max": "192m",
}


def job_server_jar(folder: Path, jars: Path = JARS) -> Path:
    """Beam's job server as one jar for `--flink_job_server_jar`: just a class path."""
    paths = " ".join(sorted(f"file:{path}" for path in jars.glob("*.jar")))
    line = f"Class-Path: {paths}"
    # A manifest's lines have at most 72 bytes; the next ones begin with a blank.
    lines = [line[:70], *(f" {line[i : i + 69]}" for i in range(70, len(line), 69))]
    main = "Main-Class: org.apache.beam.runners.flink.FlinkJobServerDriver"
    text = "\r\n".join(["Manifest-Version: 1.0", main, *lines, "", ""])
    path = folder / "job-server.jar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", text)
    return path


class FlinkCluster:
    """A standalone cluster; a context manager that leaves no process behind."""

    def __init__(self, folder: Path, *, num_task_managers: int = 2, jars: Path = JARS) -> None:
        self.folder = folder
        self.parallelism = num_task_managers
        self.rest_port = free_port()
        self.pool_port = free_port()
        self._rpc_port = free_port()
        self._jars = jars
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.set_faults()
        self._job_server = job_server_jar(folder, jars)
        self._config = self._write_config()

    def __enter__(self) -> "FlinkCluster":
        try:
            self.start_job_manager()
            for index in range(self.parallelism):
                self.start_pool(index)
                self.start_task_manager(index)
            wait_for(lambda: self.num_task_managers() == self.parallelism, "TaskManagers", START_S)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def master(self) -> str:
        """Host and port of the JobManager's REST interface."""
        return f"127.0.0.1:{self.rest_port}"

    @property
    def beam_flags(self) -> list[str]:
        """Flags that send a job here: what stands behind -- of `everyroof run`."""
        return [
            "--runner=FlinkRunner",
            f"--flink_master={self.master}",
            f"--flink_job_server_jar={self._job_server}",
            "--environment_type=EXTERNAL",
            f"--environment_config={POOL_HOST}:{self.pool_port}",
            # Workers outlive a stage: without it each stage would load the model again.
            f"--environment_cache_millis={CACHE_MS}",
            # The cluster has the classes already: one small file instead of 150 MB a job.
            f"--files_to_stage={self._job_server}",
            f"--parallelism={self.parallelism}",
        ]

    def start_job_manager(self) -> None:
        """Start the JobManager and wait until it answers."""
        name = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        self._start_java("job-manager", name)
        wait_for(self._answers, "the JobManager", START_S)

    def start_task_manager(self, index: int) -> None:
        """Start a TaskManager of one slot."""
        name = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        hosts = self.folder / f"hosts-{index}"
        names = f"localhost {socket.gethostname()}"
        hosts.write_text(f"127.0.0.1 {names}\n{pool_address(index)} {POOL_HOST}\n")
        self._start_java(f"task-manager-{index}", name, f"-Djdk.net.hosts.file={hosts}")

    def start_pool(self, index: int) -> None:
        """Start the worker pool beside a TaskManager and wait until it listens."""
        address = pool_address(index)
        command = [sys.executable, "-P", str(Path(__file__).with_name("flink_pool.py"))]
        self._start(f"pool-{index}", [*command, address, str(self.pool_port)])
        wait_for(lambda: is_listening(address, self.pool_port), "the worker pool", START_S)

    def process(self, name: str) -> psutil.Process:
        """One of job-manager, task-manager-N, pool-N."""
        return psutil.Process(self._processes[name].pid)

    def workers_beside(self, index: int) -> list[psutil.Process]:
        """The Python workers of one TaskManager that run now."""
        children = self.process(f"pool-{index}").children(recursive=True)
        return [child for child in children if "SdkHarness" in " ".join(child.cmdline())]

    def workers(self) -> list[psutil.Process]:
        """The Python workers that run now."""
        return [w for index in range(self.parallelism) for w in self.workers_beside(index)]

    def mend(self) -> None:
        """Start again what was killed, stop every job, and wait until all is as at first."""
        if "job-manager" not in self._processes:
            self.start_job_manager()
        for index in range(self.parallelism):
            if f"task-manager-{index}" not in self._processes:
                self.start_task_manager(index)
        wait_for(lambda: self.num_task_managers() == self.parallelism, "TaskManagers", START_S)
        for job in self.active_jobs():
            cancel_job(self.master, job)
        wait_for(lambda: not self.active_jobs(), "the end of all jobs", START_S)

    def active_jobs(self) -> list[FlinkJob]:
        """The jobs that have not ended."""
        return find_active_jobs(self.master, "")

    def kill(self, name: str) -> None:
        """Kill -9 one of the processes."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def set_faults(self, *, sleep_s: float = 0.0, kill_at: str | None = None) -> None:
        """Make the network's step of every tile slower, or fatal at one tile."""
        path = self.folder / "faults.json"
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"sleep_s": sleep_s, "kill_at": kill_at}))
        new.replace(path)

    def num_task_managers(self) -> int:
        """TaskManagers that the JobManager knows."""
        self._check_alive()
        return int(self.get("/overview")["taskmanagers"])

    def jobs(self) -> list[dict[str, Any]]:
        """Every job the JobManager knows, with name and state."""
        return list(self.get("/jobs/overview")["jobs"])

    def get(self, path: str) -> Any:
        """The JobManager's answer to a GET of its REST interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.rest_port}{path}", timeout=10) as page:
            return json.load(page)

    def log(self, name: str) -> str:
        """What a process has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """Kill everything that was started, workers included."""
        members = []
        for process in self._processes.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                members += psutil.Process(process.pid).children(recursive=True)
        for process in self._processes.values():
            process.kill()
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()

    def _check_alive(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} has ended:\n{self.log(name)[-3000:]}")

    def _answers(self) -> bool:
        self._check_alive()
        try:
            return bool(self.get("/overview"))
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def _write_config(self) -> Path:
        folder = self.folder / "conf"
        folder.mkdir()
        values = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": self._rpc_port,
            "jobmanager.bind-host": "127.0.0.1",
            "jobmanager.memory.heap.size": "384m",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self.rest_port,
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": 1,
            "parallelism.default": self.parallelism,
            "io.tmp.dirs": self.folder / "tmp",
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 10_000,
            # Workers outlive a stage only where Flink's own class loader has Beam's classes.
            "classloader.resolve-order": "parent-first",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 3,
            # Longer than workers are kept: a try that begins earlier is given the dead one again.
            "restart-strategy.fixed-delay.delay": f"{2 * CACHE_MS} ms",
            **TASK_MANAGER_MEMORY,
        }
        lines = [f"{key}: {value}" for key, value in values.items()]
        (folder / "config.yaml").write_text("\n".join(lines) + "\n")
        return folder

    def _start_java(self, name: str, main: str, *options: str) -> None:
        command = ["java", "-Xmx384m", *JAVA_OPTIONS, *options]
        command += ["-cp", f"{self._jars}/*"]
        self._start(name, [*command, main, "--configDir", str(self._config)])

    def _start(self, name: str, command: list[str]) -> None:
        environment = {
            **os.environ,
            # Beam's pool starts `python`: it must be ours, and see the project as it is here.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{FAULTY}:{PROJECT}",
            "PYTHONSAFEPATH": "1",
            "EVERYROOF_FAULTS": str(self.folder / "faults.json"),
            "EVERYROOF_THREADS": "1",
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=self.folder,
                preexec_fn=_die_with_parent,
            )


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when the tests' process dies (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_port() -> int:
    """A port of loopback that nobody listens to now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pool_address(index: int) -> str:
    """The address of loopback of the pool beside a TaskManager."""
    return f"127.0.0.{index + 2}"


def is_listening(address: str, port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def wait_for(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: if it does not.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not there within {seconds:g} s")
        time.sleep(0.1)
