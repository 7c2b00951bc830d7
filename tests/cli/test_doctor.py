"""`lambent doctor`, on the machine that runs the tests."""

from __future__ import annotations

import json

import pytest

from lambent.sandbox import capacity, detect

from .conftest import Lambent

HOST = capacity.Host(13_000_000_000, 20_000, 30_000, None, 96_000, memory_groups=True)


@pytest.fixture(autouse=True)
def known_host(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_runtimes(environ: dict[str, str]) -> list[dict[str, str]]:
        return []

    monkeypatch.setattr(capacity, "look", lambda memory_mib: HOST)
    monkeypatch.setattr(detect, "probe", lambda: [detect.Capability("freeze", True, "cgroup.freeze")])
    monkeypatch.setattr("lambent.cli.doctor._runtimes", no_runtimes)  # asking every interpreter takes seconds


def test_doctor_tells_how_many_environments_this_machine_holds_and_what_sets_it(lambent: Lambent) -> None:
    ran = lambent("doctor")
    assert (ran.code, ran.err) == (0, "")
    assert "This machine holds about 2,000 idle Python environments; it is limited by memory. To hold" in ran.out
    rows = [line.split() for line in ran.out.splitlines()]
    assert ["memory", "2,000", "13.0", "GB", "for", "all,", "about", "6.5", "MB", "each"] in rows
    assert ["descriptors", "of", "the", "server", "2,629"] in [row[:5] for row in rows]


def test_doctor_gives_the_ceiling_as_json(lambent: Lambent) -> None:
    ceiling = json.loads(lambent("doctor", "--json").out)["ceiling"]
    assert (ceiling["environments"], ceiling["set_by"]) == (2000, "memory")
    assert ceiling["bounds"][0]["remedy"] and {bound["name"] for bound in ceiling["bounds"]} > {"memory", "namespaces"}


def test_doctor_goes_by_the_setting_for_memory(lambent: Lambent, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(memory_mib: int) -> capacity.Host:
        seen.append(memory_mib)
        return HOST

    monkeypatch.setattr(capacity, "look", look)
    monkeypatch.setenv("LAMBENT_MEMORY_MIB", "4096")
    assert lambent("doctor").code == 0
    assert seen == [4096]
