"""The pytest plugin, as somebody who installed Lambent meets it: pytest in a process of its own, with a real server."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

from lambent.settings import load

pytest_plugins = ["pytester"]

DOCS = Path(__file__).parents[2] / "docs" / "testing.md"
CACHE = load({}).cache_dir  # before pytester has another home
RUNTIME = f"python3.{sys.version_info.minor}"
FUNCTION = """
def handler(event, context):
    print("hello from the handler")
    if "fail" in event:
        raise ValueError(event["fail"])
    return event
"""
FIXTURE = f"""
import pytest

@pytest.fixture
def f(lambent):
    return lambent.deploy("f", handler="app.handler", runtime="{RUNTIME}")
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with a function f and a fixture that deploys it."""
    for variable in [name for name in os.environ if name.startswith("LAMBENT_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("LAMBENT_CACHE_DIR", str(CACHE))
    (pytester.path / "f").mkdir()
    (pytester.path / "f" / "app.py").write_text(FUNCTION)
    pytester.makeini("[pytest]\naddopts = -p no:asyncio -p no:cacheprovider")
    pytester.makeconftest(FIXTURE)
    return pytester


def test_the_page_about_testing_is_true(project: pytest.Pytester) -> None:
    blocks = re.findall(r"^```\w+ (\S+)\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    assert [name for name, _ in blocks] == ["functions/orders/app.py", "pytest.ini", "tests/test_orders.py"]
    (project.path / "conftest.py").unlink()
    (project.path / "tox.ini").unlink()
    for name, content in blocks:
        path = project.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    ran = project.runpytest_subprocess("-p", "no:asyncio", "-p", "no:cacheprovider", "-q", "tests")
    ran.assert_outcomes(passed=content.count("\ndef test_"))


def test_where_nobody_asks_nothing_is_imported_or_started(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import sys

        def test_unused(tmp_path_factory):
            ours = {name for name in sys.modules if name.split(".")[0] == "lambent"}
            assert ours == {"lambent", "lambent.testing", "lambent.testing.plugin"}
            assert not {"typer", "rich", "boto3", "uvloop", "msgspec"} & sys.modules.keys()
            assert not list(tmp_path_factory.getbasetemp().glob("lambent*"))
    """)
    project.runpytest_subprocess().assert_outcomes(passed=1)


def test_failures_say_what_happened_instead(project: pytest.Pytester) -> None:
    project.makepyfile("""
        def test_cold_starts(f):
            f.invoke()
            f.assert_cold_starts(2)

        def test_error(f):
            f.invoke({"fail": "on purpose"}).assert_succeeded()

        def test_log(f):
            f.invoke()
            f.assert_logged("good bye")

        def test_phases(f):
            f.invoke().environment.assert_phases("init", "idle")

        def test_gone(f):
            f.invoke().environment.assert_gone()

        def test_reason(lambent, f):
            environment = f.invoke().environment
            lambent.chaos.recycle(environment)
            environment.assert_gone("age")

        def test_billed(f):
            f.invoke()
            f.assert_billed(at_most_ms=0)

        def test_environments(f):
            f.assert_environments(1)

        def test_warm(f):
            f.invoke().assert_warm()

        def test_error_type(f):
            f.invoke({"fail": "on purpose"}).assert_failed("KeyError")

        def test_no_error(f):
            f.invoke().assert_failed()
    """)
    ran = project.runpytest_subprocess("--tb=short")
    ran.assert_outcomes(failed=11)
    for said in ("f had 1 cold starts, not 2", r".* cold  .* billed .* success  in \w+-1$", "the invocation failed",
                 '.*payload .*"errorMessage": "on purpose"', r".*\[ERROR\] ValueError: on purpose",
                 "'good bye' is not in the log of f, whose end is", ".*hello from the handler",
                 "went through init, invoke, idle; expected init, idle", r".*init -> invoke +runtime asks for work",
                 r"environment \S+ is not gone but idle", r"ended \(retire: recycled \(provoked\)\), not for 'age'",
                 r"f was billed \d+ ms, more than 0 ms", "f had 0 environments, not 1", "a cold start, not a warm one",
                 "the invocation failed with ValueError, not KeyError", "the invocation did not fail"):  # fmt: skip
        assert re.search(said, ran.stdout.str(), re.MULTILINE), said


def test_every_test_begins_cold_with_nothing_armed(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest

        @pytest.mark.parametrize("again", range(2))
        def test_begins_anew(lambent, f, again):
            assert lambent.environments() == [] and lambent.chaos.armed() == [] and f.invocations == []
            f.invoke().assert_cold()
            f.assert_cold_starts(1)
            lambent.chaos.throttle(times=5)
            lambent.chaos.fail_init(f)

        def test_deletes_what_it_deployed(lambent, f):
            lambent.client().delete_function(FunctionName="f")

        def test_session_goes_on(lambent_server, f):
            f.invoke().assert_cold()
            assert lambent_server.function("f").cold_starts == 0
            assert len(lambent_server.environments()) == 1
    """)
    project.runpytest_subprocess().assert_outcomes(passed=4)


def test_everything_can_be_provoked(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import threading
        import pytest
        from lambent.testing import ApiError

        def test_crash(lambent, f):
            result = f.invoke()
            lambent.chaos.crash(result.environment)
            result.environment.assert_frozen()
            assert result.environment.provoked == ["crash of runtime (provoked)"]
            with pytest.raises(ApiError, match="has no runtime that runs"):
                lambent.chaos.crash(result.environment)
            again = f.invoke()
            again.assert_warm()
            assert again.environment == result.environment and again.init_ms is None
            assert again.init_repeated and not f.invoke().init_repeated

        def test_recycle(lambent, f):
            environments = {result.environment for result in f.invoke_at_once({}, {})}
            assert set(lambent.chaos.recycle(f)) == {environment.id for environment in environments}
            for environment in environments:
                environment.assert_gone("recycled")
            assert lambent.environments() == []

        def test_throttle(lambent, f):
            lambent.chaos.throttle(f, reason="CallerRateLimitExceeded")
            assert lambent.chaos.armed()[0]["left"] is None
            for _ in range(3):
                with pytest.raises(ApiError) as caught:
                    f.invoke()
                assert (caught.value.status, caught.value.extra) == (429, {"Reason": "CallerRateLimitExceeded"})
            assert f.throttled == 3
            lambent.chaos.clear()
            f.invoke().assert_succeeded()

        def test_advance(lambent, f):
            assert lambent.chaos.advance(1) == []
            for wrong in ("5 hours", -1):
                with pytest.raises((ValueError, ApiError)):
                    lambent.chaos.advance(wrong)
            result = f.invoke()
            assert lambent.chaos.advance("11m") == [result.environment.id]
            result.environment.assert_gone("idle")
            assert result.environment.invocations[0]["billed_ms"] == result.billed_ms

        def test_init_that_recovers(lambent, f):
            lambent.chaos.fail_init("f", "timeout", times=1)
            result = f.invoke({"a": 1})
            result.assert_succeeded()
            assert "INIT_REPORT Init Duration: 10000.00 ms" in result.log_tail
            assert result.environment.log.endswith(result.log_tail)
    """)
    project.runpytest_subprocess().assert_outcomes(passed=5)


def test_what_cannot_be_is_said_in_words(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest
        from lambent.testing import ApiError, DeploymentFailed

        def test_wrong(lambent):
            with pytest.raises(DeploymentFailed, match="absent"):
                lambent.deploy("absent", handler="a.b", runtime="python3.12")
            with pytest.raises(DeploymentFailed, match="is new: give"):
                lambent.deploy("f")
            with pytest.raises(ApiError, match="rubble1.0"):
                lambent.deploy("f", handler="a.b", runtime="rubble1.0")
            with pytest.raises(ApiError, match="Function not found"):
                lambent.function("nobody")
    """)
    project.runpytest_subprocess().assert_outcomes(passed=1)


def test_server_that_does_not_start_is_an_error_with_its_reason(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\naddopts = -p no:asyncio\nlambent_flags = --concurrency none")
    project.makepyfile("def test_any(lambent): pass")
    ran = project.runpytest_subprocess()
    ran.assert_outcomes(errors=1)
    ran.stdout.re_match_lines([".*ServerFailed: the Lambent server did not start: lambent: --concurrency: 'none' is"])


def test_server_ends_when_pytest_is_killed(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import os, signal

        def test_killed(lambent_server, f):
            f.invoke()
            pid = lambent_server._client().health()["pid"]
            with open("pid.new", "w") as file:
                file.write(str(pid))
            os.rename("pid.new", "pid")
            os.read(os.open("gate", os.O_RDONLY), 1)  # until the other one holds on to the server
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    os.mkfifo(project.path / "gate")
    process = project.popen([sys.executable, "-m", "pytest", "-q"], stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    gate = os.open(project.path / "gate", os.O_WRONLY)  # opens when the test has come so far
    server = os.pidfd_open(int((project.path / "pid").read_text()))
    os.close(gate)
    assert process.wait(30) == -9
    readable, _, _ = select.select([server], [], [], 30)
    os.close(server)
    assert readable, "the server outlived pytest"


def test_ctrl_c_ends_everything_without_noise(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import os, signal

        def test_interrupted(lambent, f):
            f.invoke()
            with open("pid", "w") as file:
                file.write(str(lambent._client().health()["pid"]))
            os.killpg(0, signal.SIGINT)
            signal.pause()
    """)
    process = project.popen([sys.executable, "-m", "pytest", "-q"], stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                            start_new_session=True)  # fmt: skip
    out, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert b"KeyboardInterrupt" in out and b"Unreachable" not in out and b"ServerFailed" not in out, out.decode()
    with pytest.raises(ProcessLookupError):
        os.kill(int((project.path / "pid").read_text()), 0)
