"""What a prepared runtime contributes: commands, variables, and where a custom runtime's program is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_runtime_api import FUNCTION, guest

from lambent.runtimes import BootstrapMissing, PreparedRuntime
from lambent.runtimes.prepared import switched_off
from lambent.sandbox.base import Places

PYTHON = PreparedRuntime("python3.12", "python3.12", "python", "3.12", ((Path("/p"), "bin/python3.12"),), "/usr",
                         Path("/cache/r"), "python:3.12.v1")
NODE = replace(PYTHON, identifier="nodejs20.x", actual="nodejs20.x", family="nodejs", line="20")
PROVIDED = replace(PYTHON, identifier="provided.al2023", family="provided", line="", lang=(), runtime_dir=None)
TASK = Path("/nonexistent")


def test_the_variables_of_python_are_those_recorded_on_aws() -> None:
    assert PYTHON.environment(Places(), FUNCTION) == {
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib"
                           ":/var/task:/var/task/lib:/opt/lib",
        "LANG": "en_US.UTF-8", "LC_CTYPE": "C.UTF-8", "TZ": ":UTC", "PYTHONPATH": "/var/runtime", "PWD": "/var/task",
        "SHLVL": "0", "LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "_HANDLER": "app.handler", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.12",
    }  # fmt: skip


def test_node_and_custom_runtimes_differ_as_on_aws() -> None:
    node = NODE.environment(Places(), FUNCTION)
    assert node["NODE_PATH"] == (
        "/opt/nodejs/node20/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task")
    assert node["AWS_EXECUTION_ENV"] == "AWS_Lambda_nodejs20.x"
    assert not {"LC_CTYPE", "PYTHONPATH"} & set(node)
    assert not {"AWS_EXECUTION_ENV", "PWD", "SHLVL"} & set(PROVIDED.environment(Places(), FUNCTION))


def test_a_customer_replaces_what_may_be_replaced() -> None:
    wanted = {"PATH": "/mine", "TZ": "Europe/Berlin", "LD_LIBRARY_PATH": "/my/lib", "_HANDLER": "other",
              "LAMBDA_TASK_ROOT": "/else", "PYTHONPATH": "/p", "MINE": "1"}  # fmt: skip
    row = PYTHON.environment(Places(), replace(FUNCTION, environment=wanted))
    assert (row["PATH"], row["TZ"], row["PYTHONPATH"]) == ("/mine", "Europe/Berlin", "/p")
    assert row["LD_LIBRARY_PATH"] == "/my/lib:/var/lang/lib"  # or the interpreter could not start
    assert (row["_HANDLER"], row["LAMBDA_TASK_ROOT"]) == ("app.handler", "/var/task")
    assert "MINE" not in row


def test_commands() -> None:
    assert PYTHON.command(Places(), FUNCTION, task=TASK, opt=None) == (
        "/var/lang/bin/python3.12", "-S", "/var/runtime/bootstrap.py")
    node = NODE.command(Places(), replace(FUNCTION, memory_mib=1000), task=TASK, opt=None)
    assert (node[0], node[-1]) == ("/var/lang/bin/node", "/var/runtime/index.cjs")
    assert "--max-old-space-size=900" in node and "--max-semi-space-size=50" in node


@pytest.mark.parametrize(("version", "options", "flags"), [
    ("20.20.2", "", ["--no-experimental-require-module"]), ("20.16.0", "", []),
    ("22.11.0", "", ["--no-experimental-require-module", "--no-experimental-detect-module"]), ("24.1.0", "", []),
    ("22.11.0", "--experimental-require-module", ["--no-experimental-detect-module"]),
    ("22.11.0", "--experimental_detect_module --experimental-require-module", []),
])  # fmt: skip
def test_what_aws_switches_off_in_node_is_off_unless_it_is_asked_for(
    version: str, options: str, flags: list[str]
) -> None:
    function = replace(FUNCTION, environment={"NODE_OPTIONS": options} if options else {})
    command = replace(NODE, switched_off=switched_off(version)).command(Places(), function, task=TASK, opt=None)
    assert [flag for flag in command if "experimental" in flag] == flags


def test_python_starts_with_site_where_a_sitecustomize_may_be_meant() -> None:
    for variables in ({"PYTHONPATH": "/opt/agent"}, {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap"}):
        function = replace(FUNCTION, environment=variables)
        assert "-S" not in PYTHON.command(Places(), function, task=TASK, opt=None)


@pytest.mark.parametrize(("wrapper", "first"), [
    ("/opt/wrap", "/layers/wrap"), ("/var/task/wrap", "/code/wrap"), ("/usr/bin/env", "/usr/bin/env"),
])  # fmt: skip
def test_a_wrapper_comes_first_and_is_found_in_this_backends_places(wrapper: str, first: str) -> None:
    function = replace(FUNCTION, environment={"AWS_LAMBDA_EXEC_WRAPPER": wrapper})
    places = Places(task="/code", opt="/layers", runtime="/r", lang="/usr")
    command = PYTHON.command(places, function, task=TASK, opt=None)
    assert command == (first, "/usr/bin/python3.12", "/r/bootstrap.py")


def test_a_custom_runtime_is_looked_up_in_the_code_and_then_in_the_layers(tmp_path: Path) -> None:
    task, opt = tmp_path / "task", tmp_path / "opt"
    task.mkdir()
    opt.mkdir()
    with pytest.raises(BootstrapMissing) as caught:
        PROVIDED.command(Places(), FUNCTION, task=task, opt=opt)
    assert caught.value.candidates == ("/var/task/bootstrap", "/opt/bootstrap")
    (opt / "bootstrap").write_text("#!/bin/sh\n")
    with pytest.raises(BootstrapMissing):  # it is not executable
        PROVIDED.command(Places(), FUNCTION, task=task, opt=opt)
    (opt / "bootstrap").chmod(0o755)
    assert PROVIDED.command(Places(), FUNCTION, task=task, opt=opt) == ("/opt/bootstrap",)
    (task / "bootstrap").symlink_to("/opt/bootstrap")
    assert PROVIDED.command(Places(), FUNCTION, task=task, opt=None) == ("/var/task/bootstrap",)


@pytest.mark.slow
async def test_the_official_client_runs_as_a_custom_runtime(
    provided: PreparedRuntime, python: PreparedRuntime, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return [event, 1 // event]\n")
    (tmp_path / "bootstrap").write_text(
        f"#!/bin/sh\nexport PYTHONPATH={python.runtime_dir}\n"
        f'exec {python.host_lang}/bin/python{python.line} -m awslambdaric "$_HANDLER"\n')
    (tmp_path / "bootstrap").chmod(0o755)
    async with guest(provided, tmp_path) as running:
        fine, failed, fine_again = [await running.invoke(event) for event in (1, 0, 1)]
    assert (fine.kind, fine.json, fine_again.json) == ("response", [1, 1], [1, 1])
    assert (failed.kind, failed.json["errorType"]) == ("error", "ZeroDivisionError")
    assert fine.headers["user-agent"].startswith("aws-lambda-python/")
