"""`lambent ps` and `lambent retire`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from .conftest import Lambent
from .fake_server import TOKEN, FakeServer


def ago(**age: float) -> str:
    return (datetime.now(UTC) - timedelta(**age)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_ps_is_a_table_for_people(lambent: Lambent, server: FakeServer) -> None:
    server.add_environment("3f9a0001", created_at=ago(hours=2, minutes=5, seconds=5), last_used_at=ago(seconds=12.5))
    server.add_environment(
        "77770002",
        phase="invoke",
        frozen=False,
        memory_bytes=None,
        pss_bytes=None,
        invocations=0,
        last_used_at=None,
        created_at=ago(minutes=3, seconds=12.5),
    )
    ran = lambent("ps")
    assert (ran.code, ran.err) == (0, "")
    header, idle, busy = ran.out.rstrip("\n").splitlines()
    assert header.split() == ["ID", "FUNCTION", "PHASE", "FROZEN", "AGE", "IDLE", "INVOCATIONS", "MEMORY", "PSS"]
    assert idle.split() == ["3f9a0001", "hello:$LATEST", "idle", "yes", "2h05m", "12s", "3", "30.0", "MB", "9.0", "MB"]
    assert server.requests[0][1] == "/_lambent/environments?pss=true"
    assert busy.split() == ["77770002", "hello:$LATEST", "invoke", "no", "3m12s", "-", "0", "-", "-"]


def test_ages_are_in_platform_time(lambent: Lambent, server: FakeServer) -> None:
    server.time = "2099-01-01T12:00:00.000Z"
    server.add_environment("3f9a0001", created_at="2099-01-01T11:50:00.000Z", last_used_at="2099-01-01T11:55:00.000Z")
    assert lambent("ps").out.splitlines()[1].split()[4:6] == ["10m00s", "5m00s"]


def test_ps_without_environments(lambent: Lambent, server: FakeServer) -> None:
    ran = lambent("ps")
    assert (ran.code, ran.out) == (0, "")
    assert "no environments" in ran.err
    assert json.loads(lambent("ps", "--json").out) == []


def test_ps_gives_the_servers_own_data_as_json(lambent: Lambent, server: FakeServer) -> None:
    server.add_environment("3f9a0001")
    assert json.loads(lambent("ps", "--json").out) == server.environments


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    (tmp_path / "token").write_text(TOKEN + "\n")
    return str(tmp_path)


def test_retire_reads_the_token_from_the_data_directory(lambent: Lambent, server: FakeServer, data_dir: str) -> None:
    server.add_environment("3f9a0001")
    assert lambent("retire", "3f9a0001", "--data-dir", data_dir) == (0, "retired 3f9a0001\n", "")
    assert server.requests[-1][:2] == ("POST", "/_lambent/environments/3f9a0001/retire")


def test_retire_takes_the_token_from_option_and_variable(
    lambent: Lambent, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add_environment("3f9a0001")
    assert json.loads(lambent("retire", "3f9a0001", "--token", TOKEN, "--json").out) == {"retired": "3f9a0001"}
    monkeypatch.setenv("LAMBENT_TOKEN", TOKEN)
    assert lambent("retire", "3f9a0001").code == 0


def test_retire_takes_the_data_directory_of_the_settings(
    lambent: Lambent, server: FakeServer, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add_environment("3f9a0001")
    monkeypatch.setenv("LAMBENT_DATA_DIR", data_dir)
    assert lambent("retire", "3f9a0001").code == 0


def test_retire_without_a_readable_token_says_where_it_looked(
    lambent: Lambent, server: FakeServer, tmp_path: Path
) -> None:
    ran = lambent("retire", "3f9a0001", "--data-dir", str(tmp_path / "absent"))
    assert ran.code == 2
    assert f"cannot read {tmp_path}/absent/token: No such file or directory" in ran.err
    assert server.requests == []
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    assert "not a token" in lambent("retire", "3f9a0001", "--data-dir", str(tmp_path)).err


def test_retire_with_a_wrong_token_exits_4(lambent: Lambent, server: FakeServer) -> None:
    server.add_environment("3f9a0001")
    ran = lambent("retire", "3f9a0001", "--token", "guessed")
    assert ran.code == 4
    assert "AccessDeniedException: the token is wrong" in ran.err


def test_the_start_of_an_id_is_enough(lambent: Lambent, server: FakeServer) -> None:
    server.add_environment("3f9a0001")
    server.add_environment("3f9b0002")
    assert lambent("retire", "3f9b", "--token", TOKEN).out == "retired 3f9b0002\n"


def test_the_start_of_two_ids_is_refused(lambent: Lambent, server: FakeServer) -> None:
    server.add_environment("3f9a0001")
    server.add_environment("3f9b0002")
    ran = lambent("retire", "3f9", "--token", TOKEN)
    assert ran.code == 2
    assert "'3f9' is the start of 2 environments: 3f9a0001, 3f9b0002" in ran.err


def test_the_number_of_an_id_is_enough(lambent: Lambent, server: FakeServer) -> None:
    server.add_environment("3f9a00-1")
    server.add_environment("3f9a00-11")
    assert lambent("retire", "1", "--token", TOKEN).out == "retired 3f9a00-1\n"
    assert lambent("retire", "11", "--token", TOKEN).out == "retired 3f9a00-11\n"


def test_a_whole_id_wins_over_a_longer_one(lambent: Lambent, server: FakeServer) -> None:
    server.add_environment("3f9a")
    server.add_environment("3f9a0001")
    assert lambent("retire", "3f9a", "--token", TOKEN).out == "retired 3f9a\n"


def test_an_unknown_environment_exits_4(lambent: Lambent, server: FakeServer) -> None:
    ran = lambent("retire", "beef", "--token", TOKEN)
    assert ran.code == 4
    assert "no environment beef is known; lambent ps lists" in ran.err
