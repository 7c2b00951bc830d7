"""Real interpreters and compiled programs inside sandboxes: filter and root must leave them enough to live on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lambent.core.model import ExitStatus
from sandbox.arena import ARENAS, Arena, Stage, finish, output, start

ROOT, _, ROOTLESS = ARENAS[1:4]

PYTHON_USES = """
import asyncio, ctypes, hashlib, json, os, select, signal, socket, sqlite3, ssl, subprocess, sys, tempfile, threading
import concurrent.futures, multiprocessing, random, resource, shutil, time, uuid
threads = [threading.Thread(target=lambda: sum(range(1000))) for _ in range(20)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
assert subprocess.run(["/bin/echo", "child"], stdout=subprocess.PIPE, check=True).stdout == b"child\\n"
async def main():
    process = await asyncio.create_subprocess_exec("/bin/true"); assert await process.wait() == 0
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.001)
asyncio.run(main())
parent, child = multiprocessing.Pipe()
worker = multiprocessing.get_context("fork").Process(target=child.send, args=("piped",))
worker.start(); assert parent.recv() == "piped"; worker.join()
with tempfile.NamedTemporaryFile() as file: file.write(b"x"); file.flush(); shutil.copy(file.name, "/tmp/copy")
base = sqlite3.connect("/tmp/base"); base.execute("create table t (a)"); base.commit(); base.close()
ssl.create_default_context(); hashlib.sha256(b"x"); uuid.uuid4(); random.SystemRandom().random()
socket.getaddrinfo("localhost", 80); left, right = socket.socketpair(); left.send(b"x")
poll = select.epoll(); poll.register(right, select.EPOLLIN); assert poll.poll(1)
os.sched_getaffinity(0); resource.getrlimit(resource.RLIMIT_NOFILE); signal.raise_signal(signal.SIGCHLD)
print("%d.%d" % sys.version_info[:2])
"""

NODE_USES = """
const {Worker} = require('worker_threads'), {execFileSync} = require('child_process'), http = require('http');
const fs = require('fs'), os = require('os'), crypto = require('crypto'), zlib = require('zlib');
fs.writeFileSync('/tmp/file', 'x'); fs.readdirSync('/var/task'); zlib.gzipSync('x'); crypto.randomBytes(8);
if (execFileSync('/bin/echo', ['child']).toString() !== 'child\\n') throw new Error('child');
if (os.totalmem() > 300 * 1024 * 1024) throw new Error('memory of the host: ' + os.totalmem());
if (os.cpus().length > 2) throw new Error('cores of the host: ' + os.cpus().length);
const worker = new Worker('require("worker_threads").parentPort.postMessage("worked")', {eval: true});
worker.on('message', text => {
  const server = http.createServer((q, r) => r.end(text)).listen(0, '127.0.0.1', () =>
    http.get({port: server.address().port, host: '127.0.0.1', agent: false}, response => {
      response.on('data', data => { console.log(data.toString()); server.close(); });
    }));
});
"""


def _interpreters() -> list[tuple[str, Path, str]]:
    """Version, installation folder and program below it: what pyenv has, whichever interpreter runs the tests."""
    folders = sorted((Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions").glob("3.*"))
    found = [(folder.name, folder, f"bin/python{'.'.join(folder.name.split('.')[:2])}") for folder in folders]
    supported = [item for item in found if int(item[0].split(".")[1]) >= 8]
    return [item for item in supported if (item[1] / item[2]).exists()]


@pytest.mark.parametrize(("version", "folder", "program"), _interpreters() or [("", Path(), "")],
                         ids=lambda value: str(value)[-12:])  # fmt: skip
def test_python_of_every_version(version: str, folder: Path, program: str) -> None:
    if not version:
        pytest.skip("needs interpreters of pyenv")

    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create(lang=((folder, ""),), memory_mib=512)
        libraries = {"LD_LIBRARY_PATH": "/var/lang/lib"}
        status, out = await finish(sandbox, f"/var/lang/{program}", "-c", PYTHON_USES, env=libraries)
        assert (status, out) == (ExitStatus(code=0), ".".join(version.split(".")[:2]) + "\n")
        await sandbox.destroy("test")

    ROOT.play(scenario, tmp="tmpfs")


@pytest.fixture(params=(ROOT, ROOTLESS), ids=lambda arena: arena.name)
def arena(request: pytest.FixtureRequest) -> Arena:
    chosen: Arena = request.param
    return chosen


def test_node_with_workers_children_and_its_own_size(arena: Arena) -> None:
    if shutil.which("node") is None or not os.path.realpath(shutil.which("node") or "").startswith("/usr/"):
        pytest.skip("needs Node.js below /usr")

    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create(memory_mib=256)
        status, out = await finish(sandbox, "/usr/bin/node", "-e", NODE_USES)
        assert (status, out) == (ExitStatus(code=0), "worked\n")
        await sandbox.destroy("test")

    arena.play(scenario)


C_PROGRAM = """
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static void *work(void *value) { usleep(1000); return value; }
int main(void) {
    pthread_t threads[50];
    for (int i = 0; i < 50; i++) if (pthread_create(&threads[i], 0, work, 0)) return 1;
    for (int i = 0; i < 50; i++) pthread_join(threads[i], 0);
    puts("compiled"); return 0;
}
"""


@pytest.mark.parametrize("link", ["-static", "-pie"])
def test_a_compiled_bootstrap_with_threads(link: str, tmp_path: Path) -> None:
    """A package's own `bootstrap`, as Go and Rust programs are: linked statically or against the host's library."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    (tmp_path / "main.c").write_text(C_PROGRAM)

    async def scenario(stage: Stage) -> None:
        command = ["gcc", link, "-pthread", "-o", str(stage.task / "bootstrap"), str(tmp_path / "main.c")]
        await asyncio.get_running_loop().run_in_executor(None, lambda: subprocess.run(command, check=True))
        sandbox = await stage.create()
        assert await finish(sandbox, "/var/task/bootstrap", cwd="/var/task") == (ExitStatus(code=0), "compiled\n")
        await sandbox.destroy("test")

    ROOT.play(scenario, tmp="tmpfs")


def test_creation_can_be_cancelled_at_any_moment(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        for turns in range(0, 60, 3):
            creating = asyncio.ensure_future(stage.create())
            for _ in range(turns):
                await asyncio.sleep(0)
            creating.cancel()
            try:
                sandbox = await creating
            except asyncio.CancelledError:
                continue
            await sandbox.destroy("test")
        for delay_ms in range(8):
            try:
                async with asyncio.timeout(delay_ms / 1000):
                    sandbox = await stage.create()
            except TimeoutError:
                continue
            await sandbox.destroy("test")
        sandbox = await stage.create()
        assert await output(sandbox, "echo whole") == "whole\n"
        await sandbox.destroy("test")

    arena.play(scenario)


def test_a_run_can_be_cancelled(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        for turns in range(4):
            running = asyncio.ensure_future(start(sandbox, "/bin/sleep", "100"))
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await running).close()
        await sandbox.kill()
        assert sandbox.usage().pids == ()
        assert await output(sandbox, "echo whole") == "whole\n"
        await sandbox.destroy("test")

    arena.play(scenario)
