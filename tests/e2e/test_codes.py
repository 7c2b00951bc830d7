"""Code compiled ahead: a cold start of a function whose package was compiled before compiles nothing, and finds what it
would have found without."""

from __future__ import annotations

import io
import signal
import zipfile
from pathlib import Path

import pytest

from .harness import PYTHON, Function, Server, running, until
from .test_runtimes import PYTHONS

#: A runtime that the host lacks is the closest one here.
FLAGS = ("--nearest-runtime",)
#: Large enough to be worth it.
FILLING = "".join(f"def f{number}(x):\n    return x + {number}\n" for number in range(200))
FILES = {"big/__init__.py": "from big.inner import WHERE\n" + FILLING, "big/inner.py": "WHERE = __file__\n",
         "alone.py": FILLING}  # fmt: skip
SOURCE = """
import os, sys
compiled = []
sys.addaudithook(lambda event, found: event == "compile" and compiled.append(os.path.basename(str(found[1]))))
import alone, big
try:
    import layered
except ImportError:
    layered = None

def handler(event, context):
    tree = [name for place in ("/var/task", "/opt") for _, folders, files in os.walk(place) for name in folders + files]
    return {"compiled": [name for name in compiled if name != "<string>"], "big": [big.WHERE, big.__cached__],
            "layered": layered and layered.__file__, "caches": [name for name in tree if "pyc" in name],
            "path": sys.path, "images": [os.path.getsize("/var/runtime/" + name) > 0 for name in (".task", ".opt")],
            "writable": os.access("/var/runtime/.task", os.W_OK), "version": "%d.%d" % sys.version_info[:2]}
"""


def images(data_dir: Path) -> dict[str, int]:
    """Sizes of what was compiled, by package and label."""
    found = (data_dir / "packages" / ".code").glob("*/*")
    return {f"{path.parent.name}/{path.name}": path.stat().st_size for path in found}


def compiled(data_dir: Path, count: int) -> dict[str, int]:
    until(lambda: len(images(data_dir)) >= count, 60)
    return images(data_dir)


def cold(server: Server, name: str) -> dict[str, object]:
    for row in server.environments(name):
        server.retire(row["id"])
    until(lambda: not server.environments(name))
    call = server.invoke(name)
    assert call.cold and not call.error, call.log
    seen: dict[str, object] = call.payload
    return seen | {"blank": server.environment(call.environment)["from_blank"]}


def layer(server: Server, files: dict[str, str]) -> str:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    reply = server.functions.publish_layer_version(LayerName="code", Content={"ZipFile": content.getvalue()})
    return str(reply["LayerVersionArn"])


@pytest.mark.parametrize("runtime", PYTHONS)
def test_nothing_is_compiled_at_a_cold_start(server: Server, data_dir: Path, runtime: str) -> None:
    name = "all-" + runtime.replace(".", "-")
    before = len(images(data_dir))
    arn = layer(server, {"python/layered.py": FILLING + f"# {name}\n"})
    server.deploy(Function(name, f"{SOURCE}# {name}\n", files=FILES, runtime=runtime, more={"Layers": [arn]}))
    compiled(data_dir, before + 2)
    seen = cold(server, name)
    assert seen["compiled"] == [] and seen["caches"] == [] and seen["images"] == [True, True]
    tag = str(seen["version"]).replace(".", "")
    assert seen["big"] == ["/var/task/big/inner.py", f"/var/task/big/__pycache__/__init__.cpython-{tag}.pyc"]
    assert seen["layered"] == "/opt/python/layered.py" and not seen["writable"]


def test_a_waiting_runtime_and_a_process_of_its_own_take_it_too_and_see_the_same(
        server: Server, data_dir: Path) -> None:
    before = len(images(data_dir))
    server.deploy(Function("blank", SOURCE + "# of its own\n", files=FILES))
    compiled(data_dir, before + 1)
    until(lambda: server.http("GET", "/_lambent/health").json()["blanks"] >= 1)
    first = cold(server, "blank")
    server.functions.update_function_configuration(
        FunctionName="blank", Environment={"Variables": {"PYTHONDONTWRITEBYTECODE": "1"}})  # needs a process of its own
    server.wait_active("blank", "function_updated_v2")
    second = cold(server, "blank")
    assert first.pop("blank")
    del second["blank"]  # its sandbox may have been parked, too
    assert first == second and first["compiled"] == [] and first["images"] == [True, False]


def test_hostile_sources_cost_their_own_function_nothing_and_nobody_else(server: Server, data_dir: Path) -> None:
    before = len(images(data_dir))
    hostile: dict[str, str | bytes] = {
        "aa_deep.py": "x = " + "(" * 100_000 + ")" * 100_000, "ab_minus.py": "x = " + "-" * 500_000 + "1",
        "ac_power.py": "x = " + "**".join(["9" * 9] * 2), "ad_large.py": "x = 1\n" * 1_000_000, "ae_bad.py": "def (",
        "af_null.py": b"x = 1\0", "ag\x7f\n.py": "x = 1\n", "ah_dots.py": "x" + ".x" * 400_000,
    }  # fmt: skip
    server.deploy(Function("hostile", SOURCE, files=FILES | hostile),
                  Function("neighbour", SOURCE + "# another package\n", files=FILES))
    compiled(data_dir, before + 2)
    assert cold(server, "neighbour")["compiled"] == []
    seen = cold(server, "hostile")
    assert seen["big"] == cold(server, "neighbour")["big"]


def test_it_is_kept_over_a_restart_and_removed_with_the_function(data_dir: Path) -> None:
    own = data_dir.with_name("restarted")
    with running(own) as server:
        server.deploy(Function("kept", SOURCE, files=FILES))
        first = compiled(own, 1)
    with running(own) as server:
        assert images(own) == first and cold(server, "kept")["compiled"] == []
        server.functions.delete_function(FunctionName="kept")
        for row in server.environments("kept"):
            server.retire(row["id"])
        until(lambda: not images(own))


def test_what_was_not_compiled_before_a_kill_is_compiled_after_the_first_call(data_dir: Path) -> None:
    own = data_dir.with_name("killed")
    with running(own) as server:
        server.deploy(Function("late", SOURCE, files=FILES))
        compiled(own, 1)
    for path in (own / "packages" / ".code").glob("*/*"):
        path.unlink()
    with running(own) as server:
        assert sorted(cold(server, "late")["compiled"])[:2] == ["__init__.py", "alone.py"]  # type: ignore[call-overload]
        compiled(own, 1)
        assert cold(server, "late")["compiled"] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends_while_it_compiles_leaves_nothing_and_does_it_later(data_dir: Path, number: int) -> None:
    own = data_dir.with_name(f"ended-{number}")
    many = {f"many/m{index}.py": FILLING for index in range(300)}
    server = Server(own)
    try:
        server.deploy(Function("many", SOURCE, files=FILES | many))
        until(lambda: list((own / "packages").glob(".tmp-*")))
        assert images(own) == {}
    finally:
        code = server.stop(number)
    assert code == (-number if number == signal.SIGKILL else 0) and "Traceback" not in server.stderr()
    if number == signal.SIGTERM:
        assert not list((own / "packages").glob(".tmp-*"))
    with running(own) as server:
        assert not list((own / "packages").glob(".tmp-*"))
        assert "alone.py" in cold(server, "many")["compiled"]  # type: ignore[operator]
        compiled(own, 1)
        assert cold(server, "many")["compiled"] == []


def test_small_packages_are_not_worth_it(server: Server, data_dir: Path) -> None:
    before = len(images(data_dir))
    server.deploy(Function("small", "def handler(event, context):\n    return 1\n", runtime=PYTHON))
    assert [size for label, size in compiled(data_dir, before + 1).items() if not size] == [0]
