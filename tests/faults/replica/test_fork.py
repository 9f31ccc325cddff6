"""Applications that fork, in every way, and interpreters that end: children read and follow, and nobody hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.faults.replica.host import Truth, host, some, until
from tests.faults.replica.writer import Writer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

LONGEST = 25.0  # seconds that a program may take

# Each program prints "well" as its last line; the arguments are target, folder and the id of one of the pair.
BEGIN = """
import faulthandler, multiprocessing, os, signal, sys, threading, time
faulthandler.enable()
faulthandler.register(signal.SIGUSR1)
from cqar.client import connect
target, folder, asset_id = sys.argv[1:4]

def look(client):
    assert client.asset(asset_id).symbol.startswith("PAIR")
    assert len(client.group("PAIR").members) == 2

def follow(client):
    look(client)
    name = f"by {os.getpid()} {time.monotonic_ns()}"
    written = client.registry.update_asset(asset_id, description=name)
    client.wait_for(written.position, timeout=20)
    assert client.asset(asset_id).description is not None
    client.sql("SELECT count(*) FROM assets").fetchall()

def wait(pids):
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
"""

EIGHT_CHILDREN = """
client = connect(target, replica_dir=folder)
used = sys.argv[4] == "used"
if used:
    follow(client)
def child():
    try:
        follow(client)
        client.close()
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
pids = []
for _ in range(8):
    pid = os.fork()
    if not pid:
        child()
    pids.append(pid)
follow(client)
wait(pids)
follow(client)
client.close()
print("well")
"""

GRANDCHILDREN = """
client = connect(target, replica_dir=folder)
pid = os.fork()
if not pid:
    follow(client)
    grandchild = os.fork()
    if not grandchild:
        follow(client)
        sys.exit(0)
    wait([grandchild])
    follow(client)
    sys.exit(0)
wait([pid])
follow(client)
print("well")
"""

MULTIPROCESSING = """
def work(number):
    look(client)
    return number

def connected():
    global client
    client = connect(target, replica_dir=folder)

if __name__ == "__main__":
    connected()
    follow(client)
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(2, initializer=None if method == "fork" else connected) as pool:
            assert pool.map(work, range(20)) == list(range(20))
    follow(client)
    print("well")  # noqa: T201  (a figure)
"""

THREADS_THAT_FORK = """
client = connect(target, replica_dir=folder)
stop = threading.Event()
def reader():
    while not stop.is_set():
        look(client)
def forker():
    for _ in range(15):
        pid = os.fork()
        if not pid:
            look(client)
            os._exit(0)
        wait([pid])
threads = [threading.Thread(target=reader) for _ in range(3)]
forkers = [threading.Thread(target=forker) for _ in range(3)]
for thread in threads + forkers: thread.start()
for thread in forkers: thread.join()
stop.set()
for thread in threads: thread.join()
follow(client)
client.close()
print("well")
"""

SUBPROCESSES = """
import subprocess
client = connect(target, replica_dir=folder)
for _ in range(5):
    assert subprocess.run(["true"]).returncode == 0
    assert subprocess.run(["true"], preexec_fn=lambda: None).returncode == 0
follow(client)
client.close()
print("well")
"""

ENDS = {
    "with an open client": "client = connect(target, replica_dir=folder)\nlook(client)\nprint('well')",
    "with a client of another thread": """
def run():
    client = connect(target, replica_dir=folder)
    look(client)
    keep.append(client)
keep = []
thread = threading.Thread(target=run); thread.start(); thread.join()
print("well")
""",
    "in the middle of look-ups of daemon threads": """
client = connect(target, replica_dir=folder)
def run():
    while True:
        look(client)
for _ in range(4):
    threading.Thread(target=run, daemon=True).start()
time.sleep(0.3)
print("well")
""",
    "with a state callback": """
client = connect(target, replica_dir=folder, on_state=lambda status: None)
time.sleep(0.2)
print("well")
""",
    "by sys.exit in asyncio": """
import asyncio
async def run():
    client = await asyncio.to_thread(connect, target, replica_dir=folder)
    look(client)
asyncio.run(run())
print("well")
""",
    "by an error": """
client = connect(target, replica_dir=folder)
look(client)
print("well")
sys.exit(3)
""",
    "without a replica": """
client = connect("127.0.0.1:1", replica_dir=folder + "-none", start="server", timeout=0.5)
print("well")
""",
}


def run(program: str, target: str, folder: Path, asset_id: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run a program; it must end in time."""
    path = folder / "program.py"
    folder.mkdir(exist_ok=True)
    path.write_text(BEGIN + program)
    command = [sys.executable, str(path), target, str(folder / "replica"), asset_id, *more]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        out, words = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGUSR1)  # all of them say where they are
        time.sleep(1)
        os.killpg(process.pid, signal.SIGKILL)
        _, words = process.communicate()
        raise AssertionError(f"it hangs:\n{words[-8000:]}") from None
    return subprocess.CompletedProcess(command, process.returncode, out, words)


@pytest.mark.parametrize("when", some(("used", "unused"), 2))
def test_eight_forked_children_read_and_follow(when: str, target: str, writer: Writer, folder: Path) -> None:
    """F3: before and after the client was used, children answer, write, wait for it, query, and end well."""
    done = run(EIGHT_CHILDREN, target, folder, writer.pair[0], when)
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr


@pytest.mark.parametrize("program", [THREADS_THAT_FORK, MULTIPROCESSING, *some((GRANDCHILDREN, SUBPROCESSES), 2)])
def test_every_way_to_fork(program: str, target: str, writer: Writer, folder: Path) -> None:
    """F3: children of children, pools of each start method, threads that fork at once, and subprocesses."""
    done = run(program, target, folder, writer.pair[0])
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr


@pytest.mark.parametrize("how", some(ENDS, 2))
def test_an_interpreter_ends_without_a_word(how: str, target: str, writer: Writer, folder: Path) -> None:
    """F3: whatever the client's threads are doing, the interpreter ends at once, with its own code and nothing on stderr."""
    began = time.monotonic()
    done = run(ENDS[how], target, folder, writer.pair[0])
    assert time.monotonic() - began < 10
    words = [line for line in done.stderr.splitlines() if "cannot be reached" not in line and "not level" not in line]
    assert (done.stdout, words) == ("well\n", []), done.stderr
    assert done.returncode == (3 if "error" in how else 0)


LEADER = """
client = connect(target, replica_dir=folder)
assert client.status().is_syncer
pids = []
for _ in range(3):
    pid = os.fork()
    if not pid:
        while True:
            look(client)
            time.sleep(0.05)
    pids.append(pid)
print(*pids, flush=True)
time.sleep(60)
"""


def test_the_children_of_a_killed_leader_do_not_keep_its_place(
    target: str, truth: Truth, writer: Writer, folder: Path
) -> None:
    """F3: the lock is no inheritance: with forked children alive, another process leads within 2 s."""
    folder.mkdir()
    program = folder / "leader.py"
    program.write_text(BEGIN + LEADER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    command = [sys.executable, str(program), target, str(folder / "replica"), writer.pair[0]]
    pids: list[int] = []
    with (
        host(target, folder) as several,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as leader,
    ):
        try:
            assert leader.stdout is not None
            pids = [int(pid) for pid in leader.stdout.readline().split()]
            assert len(pids) == 3
            member = several.start(sync="off").ready()
            leader.kill()
            began = time.monotonic()
            position = writer.write_pair()
            member.ask("wait", position=position, timeout=2.0)
            print(f"\ntaken over after {time.monotonic() - began:.2f} s")  # noqa: T201  (a figure)
            until(lambda: member.ask("status")["syncer"] in pids, "a child leads")
            several.check(truth)
        finally:
            leader.kill()
            for pid in pids:
                os.kill(pid, 9)


APPLICATION = """
import os, sys
from cqar.client import connect

client = connect(os.environ["TARGET"], replica_dir=os.environ["FOLDER"])  # before gunicorn forks
client.group("PAIR")
client.sql("SELECT count(*) FROM assets").fetchall()

def application(environ, start_response):
    count = client.sql("SELECT count(*) FROM assets").fetchall()[0][0]
    name = client.asset(os.environ["ASSET"]).name
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {count > 0} {client.position} {name}".encode()]
"""


def test_the_workers_of_gunicorn_share_what_was_preloaded(target: str, writer: Writer, folder: Path) -> None:
    """F3: an application that connects before gunicorn forks answers in every worker, follows, and ends on SIGTERM."""
    pytest.importorskip("gunicorn")
    folder.mkdir()
    (folder / "application.py").write_text(APPLICATION)
    address = folder / "log"
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "3", "--bind", "127.0.0.1:0"]
    paths = os.pathsep.join([str(folder), *[each for each in sys.path if each]])
    given = {"TARGET": target, "FOLDER": str(folder / "replica"), "ASSET": writer.pair[0], "PYTHONPATH": paths}
    with address.open("wb") as log:
        gunicorn = subprocess.Popen([*command, "application"], stderr=log, env={**os.environ, **given}, cwd=folder)
    try:
        until(lambda: b"Listening at" in address.read_bytes() or gunicorn.poll() is not None, "gunicorn listens")
        assert gunicorn.poll() is None, address.read_text()
        url = address.read_text().partition("Listening at: ")[2].split()[0]
        answers = set()
        for _ in range(30):
            position = writer.write_pair()
            with urllib.request.urlopen(url, timeout=10) as reply:
                pid, well, shown, *_ = reply.read().decode().split()
            answers.add(pid)
            assert well == "True"
            assert int(shown) > position - 30
        assert len(answers) > 1
        gunicorn.terminate()
        assert gunicorn.wait(15) == 0
        assert "Traceback" not in address.read_text(), address.read_text()
        assert "SIG" not in address.read_text(), address.read_text()
    finally:
        gunicorn.kill()
        gunicorn.wait()
