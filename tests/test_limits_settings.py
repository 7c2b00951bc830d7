"""Settings from flags, variables and defaults, and every way to get them wrong; the one limit that is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambent import limits, settings
from lambent.settings import SETTINGS, SettingError, load


def test_defaults_are_those_of_the_table_and_fit_their_own_rules() -> None:
    made = load({}, {})
    assert (made.host, made.port, made.account, made.region) == ("127.0.0.1", 4566, "000000000000", "us-east-1")
    for setting in SETTINGS:
        setting.check(setting.default)
        assert getattr(made, setting.name) == setting.default


def test_every_default_survives_being_typed() -> None:
    for setting in SETTINGS:
        if setting.default_text:
            assert setting.parse(setting.default_text) == setting.default


def test_flag_wins_over_variable_and_variable_over_default() -> None:
    environ = {"LAMBENT_PORT": "5000", "LAMBENT_REGION": "eu-central-1"}
    made = load({"port": "6000", "region": None}, environ)
    assert (made.port, made.region, made.host) == (6000, "eu-central-1", "127.0.0.1")


def test_flags_may_be_text_or_values() -> None:
    assert load({"port": "0", "keep_alive_s": 1.5, "data_dir": "/x", "nearest_runtime": True}, {}) == load(
        {"port": 0, "keep_alive_s": "1.5", "data_dir": Path("/x"), "nearest_runtime": "yes"}, {})  # fmt: skip


def test_folders_are_absolute_from_where_the_command_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load({"data_dir": "my data"}, {"LAMBENT_CACHE_DIR": "../cache"})
    assert (settings.data_dir, settings.cache_dir) == (tmp_path / "my data", tmp_path.parent / "cache")


def test_empty_variable_is_as_if_unset() -> None:
    assert load({}, {"LAMBENT_PORT": ""}).port == 4566


def test_unknown_variable_is_refused_by_its_name_and_those_of_the_client_are_not() -> None:
    with pytest.raises(SettingError, match="LAMBENT_PROT is not a setting"):
        load({}, {"LAMBENT_PROT": "1"})
    load({}, {"LAMBENT_ENDPOINT": "http://x", "LAMBENT_TOKEN": "t", "PATH": "/bin"})


@pytest.mark.parametrize(("text", "value"), [("1", True), ("TRUE", True), ("on", True), ("No", False), ("off", False)])
def test_truth_may_be_typed_in_several_ways(text: str, value: bool) -> None:
    assert load({}, {"LAMBENT_NEAREST_RUNTIME": text}).nearest_runtime is value


@pytest.mark.parametrize(("name", "text", "said"), [
    ("port", "http", "--port: 'http' is not a whole number"),
    ("port", "80.5", "is not a whole number"),
    ("port", "-1", "--port: -1 is below 0"),
    ("port", "65536", "is not a port"),
    ("keep_alive_s", "long", "--keep-alive-s: 'long' is not a number"),
    ("keep_alive_s", "nan", "is not a number that one can count to"),
    ("max_age_s", "inf", "is not a number that one can count to"),
    ("max_age_s", "0", "is below 1"),
    ("concurrency", "0", "is below 1"),
    ("memory_mib", "-5", "is below 0"),
    ("drain_s", "-0.1", "is below 0"),
    ("nearest_runtime", "maybe", "is not true or false"),
    ("sandbox", "docker", "is not one of auto, namespace, process"),
    ("network", "nat", "is not one of host, isolated"),
    ("account", "1234", "is not a 12-digit account id"),
    ("account", "１２３４５６７８９０１２", "is not a 12-digit account id"),
    ("region", "US East", "is not the name of a region"),
    ("region", "us-east-1\n", "is not the name of a region"),
    ("host", "", "--host must not be empty"),
    ("host", " ", "--host must not be empty"),
    ("data_dir", "", "--data-dir must not be empty"),
])  # fmt: skip
def test_value_that_does_not_fit_is_refused_with_the_flag_the_value_and_what_is_allowed(name: str, text: str,
                                                                                        said: str) -> None:
    with pytest.raises(SettingError) as caught:
        load({name: text}, {})
    assert said in str(caught.value)
    if text:
        setting = next(setting for setting in SETTINGS if setting.name == name)
        with pytest.raises(SettingError):
            load({}, {setting.variable: text})


def test_client_reads_its_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBENT_ENDPOINT", "http://x:1")
    monkeypatch.setenv("LAMBENT_TOKEN", "")
    assert settings.client_endpoint() == "http://x:1"
    assert settings.client_token() is None


@pytest.mark.parametrize(("init_type", "timeout_s", "expected"), [
    ("on-demand", 900, 10.0), ("provisioned-concurrency", 3, 130.0), ("snap-start", 900, 900.0)])  # fmt: skip
def test_init_may_take_ten_seconds_on_demand_and_longer_ahead(init_type: str, timeout_s: float,
                                                              expected: float) -> None:
    assert limits.init_timeout_s(init_type, timeout_s) == expected
