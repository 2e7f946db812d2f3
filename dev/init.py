"""The first process of a node: sets it up, keeps its programs running, and takes requests from the owner.

It is process 1 of the cluster's own process namespace: when it ends, the kernel ends everything in there.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dev.plan import Plan, Process

NOTIFY_FOLDER: Final = Path("/run/notify")
RESTART_SECONDS: Final = 1.0  # between two starts of a program that ends by itself
STOP_SECONDS: Final = 3.0  # from SIGTERM to SIGKILL
PASSED_SOCKET: Final = 3  # the descriptor under which a program finds the socket that it was given


class Program:
    """One program of the plan and what is known of it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.ready = asyncio.Event()
        self.wanted = True
        self.pid: int | None = None
        self.ended: asyncio.Future[int] | None = None
        self.starts = 0
        self.exit_code: int | None = None
        self.keeper: asyncio.Task[None] | None = None

    def describe(self) -> dict[str, object]:
        if self.pid is not None:
            state = "running"
        elif self.process.once and self.exit_code == 0:
            state = "done"
        else:
            state = "stopped" if not self.wanted else "waiting"
        return {"state": state, "pid": self.pid, "starts": self.starts, "exitCode": self.exit_code}


class Supervisor:
    """Starts the programs in their order, starts again what ends by itself, and stops what it is told to."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.programs = {process.name: Program(process) for process in plan.processes}
        # Memory is at hand for a short while; processors are what tests wait for, and a sixth of theirs was collecting.
        self.environment = {"PATH": plan.path, "HOME": os.environ.get("HOME", "/root"), "GOGC": "400"}
        self.started = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.started:7.2f} s  {text}", flush=True)

    def reap(self) -> None:
        """Take the exit codes of whatever has ended: our own programs, and orphans that were handed to process 1."""
        by_pid = {program.pid: program for program in self.programs.values() if program.pid is not None}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            program = by_pid.get(pid)
            if program and program.ended:
                program.pid, program.exit_code = None, os.waitstatus_to_exitcode(status)
                program.ended.set_result(program.exit_code)

    def spawn(self, program: Program) -> asyncio.Future[int]:
        """Start the program, its output appended to its log; the future holds its exit code."""
        process, environment = program.process, dict(self.environment)
        if process.notifies:
            environment["NOTIFY_SOCKET"] = str(NOTIFY_FOLDER / process.name)
        log = os.open(Path(self.plan.log) / process.name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ]
        if process.socket is not None:
            actions.append((os.POSIX_SPAWN_DUP2, process.socket, PASSED_SOCKET))
        try:
            program.pid = os.posix_spawnp(
                process.argv[0],
                process.argv,
                environment,
                file_actions=actions,
                setsid=True,
                setsigdef=[signal.SIGPIPE],
            )
        finally:
            os.close(log)
        program.ended = asyncio.get_running_loop().create_future()
        program.starts += 1
        return program.ended

    async def keep(self, program: Program) -> None:
        """Start the program once its turn has come, and again whenever it ends although it is wanted."""
        process = program.process
        for name in process.after:
            await self.programs[name].ready.wait()
        while program.wanted:
            ended = self.spawn(program)
            self.say(f"{process.name} started")
            if not (process.notifies or process.once):
                program.ready.set()
            code = await ended
            if process.once and code == 0:
                self.say(f"{process.name} done")
                program.ready.set()
                return
            self.say(f"{process.name} ended with {code}")
            if program.wanted:
                await asyncio.sleep(RESTART_SECONDS)

    async def start(self, program: Program) -> None:
        program.wanted = True
        if program.keeper is None or program.keeper.done():
            program.keeper = asyncio.create_task(self.keep(program))

    async def stop(self, program: Program) -> None:
        """Stop it for good; returns when it is gone."""
        program.wanted = False
        if program.pid is None or program.ended is None:
            return
        os.kill(program.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(program.ended), STOP_SECONDS)
        except TimeoutError:
            os.kill(program.pid, signal.SIGKILL)
            await program.ended

    def listen_for_readiness(self, program: Program) -> None:
        """Take the sd_notify message by which a program says that it serves."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(str(NOTIFY_FOLDER / program.process.name))

        def received() -> None:
            if b"READY=1" in listener.recv(4096) and not program.ready.is_set():
                self.say(f"{program.process.name} ready")
                program.ready.set()

        asyncio.get_running_loop().add_reader(listener, received)

    async def answer(self, request: dict[str, Any]) -> dict[str, object]:
        """Carry out one request of the cluster's owner."""
        if request["do"] == "status":
            return {"programs": {name: program.describe() for name, program in self.programs.items()}}
        if request["do"] == "add":
            added = Program(Process(**request["process"]))
            known = self.programs.setdefault(added.process.name, added)
            await self.start(known)
            return known.describe()
        program = self.programs.get(str(request["name"]))
        if program is None:
            return {"error": f"no program {request['name']} here; there are: {', '.join(self.programs)}"}
        await (self.start(program) if request["do"] == "start" else self.stop(program))
        return program.describe()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: a request a line, an answer a line."""
        with_answers: Callable[[bytes], None] = writer.write
        async for line in reader:
            with_answers(json.dumps(await self.answer(json.loads(line))).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def run(self) -> None:
        """Until the end of the cluster."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self.reap)
        over = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, over.set)
        NOTIFY_FOLDER.mkdir()
        async with await asyncio.start_unix_server(self.serve, sock=bound_socket(Path(self.plan.control))):
            for program in self.programs.values():
                if program.process.notifies:
                    self.listen_for_readiness(program)
            for program in self.programs.values():
                await self.start(program)
            await over.wait()


def bound_socket(path: Path) -> socket.socket:
    """A Unix socket at any path: the kernel takes 107 characters, so the folder is named by its descriptor."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)
    return listener


def main() -> None:
    plan = Plan.read(Path(sys.argv[1]))
    for group in plan.cgroups:
        Path(group, "cgroup.procs").write_text("0")
    os.environ["PATH"] = plan.path
    socket.sethostname(plan.hostname)
    for command in plan.setup:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    for process in plan.processes:
        if process.socket is not None:
            os.set_inheritable(process.socket, False)
    asyncio.run(Supervisor(plan).run())


if __name__ == "__main__":
    main()
