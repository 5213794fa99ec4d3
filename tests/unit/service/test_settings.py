import json
import tomllib
from pathlib import Path

import pytest

from convserve.settings import InvalidSettings, Settings, load_settings, origin


def test_command_line_beats_environment_beats_file_beats_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "convserve.toml"
    assert load_settings().port == 8000
    file.write_text('port = 1\nmodels = ["a", "b"]')
    monkeypatch.setenv("CONVSERVE_CONFIG", str(file))
    assert load_settings().port == 1
    assert load_settings().models == ("a", "b")
    monkeypatch.setenv("CONVSERVE_PORT", "2")
    assert load_settings().port == 2
    assert load_settings({"port": "3"}).port == 3

    assert origin("port", {"port": "3"}) == "--port"
    assert origin("port", {}) == "CONVSERVE_PORT"
    assert origin("models", {}) == str(file)
    assert origin("host", {}) == "default"


SAMPLES: dict[str, object] = {
    "host": "0.0.0.0",
    "root_path": "/models",
    "models": "a,b",
    "tags": "a:stable=1",
    "tls_certificate": __file__,
    "tls_key": __file__,
    "trusted_proxies": "10.0.0.0/8",
    "cors_origins": "https://a.example",
    "inference_keys": "app=0123456789abcdef",
    "management_keys": "app=0123456789abcdef",
    "store": "elsewhere",
    "cache": "elsewhere",
    "precision": "int8",
    "log_level": "debug",
    "log_format": "text",
    "traces": "http://127.0.0.1:4318",
}
"""A usable value of each setting that is no number, as text."""


def sample(name: str) -> str:
    """A value that is not the default."""
    default = Settings.model_fields[name].get_default()
    return str(SAMPLES.get(name, 3 if default != 3 else 4))


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_reachable_three_ways(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from convserve.cli import main

    def shown(*flags: str) -> tuple[str, str]:
        """What is printed of the setting: its value, and where it comes from."""
        assert main(["print-config", *flags]) == 0
        lines = capsys.readouterr().out.splitlines()
        (line,) = [line for line in lines if line.removeprefix("# ").startswith(f"{name} = ")]
        value, _, where = line.rpartition("  # ")
        return value.partition(" = ")[2], where

    flag, variable = f"--{name.replace('_', '-')}", f"CONVSERVE_{name.upper()}"
    monkeypatch.delenv(variable, raising=False)
    default = shown()
    assert default[1] == "default"
    by_flag = shown(flag, sample(name))
    assert by_flag[1] == flag
    assert by_flag[0] != default[0]
    meant = getattr(load_settings({name: sample(name)}), name)  # of secrets only stars are shown
    with monkeypatch.context() as environment:
        environment.setenv(variable, sample(name))
        assert shown() == (by_flag[0], variable)
        assert getattr(load_settings(), name) == meant
    file = tmp_path / "convserve.toml"
    value = sample(name) if name in SAMPLES else int(sample(name))
    file.write_text(f"{name} = {json.dumps(value)}")
    monkeypatch.setenv("CONVSERVE_CONFIG", str(file))
    assert shown() == (by_flag[0], str(file))
    assert getattr(load_settings(), name) == meant


def test_names_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSERVE_MODELS", "a, b,,")
    assert load_settings().models == ("a", "b")


def test_an_empty_variable_is_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSERVE_CORES", "")
    assert load_settings().cores is None
    assert origin("cores", {}) == "default"


def test_every_setting_is_documented() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_an_unknown_variable_is_an_error_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSERVE_PROT", "1")
    with pytest.raises(InvalidSettings, match=r"CONVSERVE_PROT .* mean 'CONVSERVE_PORT'"):
        load_settings()


def test_variables_of_the_neighbours_are_no_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSERVE_DATA", "/somewhere")
    load_settings()


def test_an_unknown_key_in_the_file_is_an_error_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "convserve.toml"
    file.write_text("max_pixel = 1")
    monkeypatch.setenv("CONVSERVE_CONFIG", str(file))
    with pytest.raises(InvalidSettings, match=r"convserve.toml.*'max_pixel'.*'max_pixels'"):
        load_settings()


@pytest.mark.parametrize("content", [None, "port = "])
def test_a_file_that_cannot_be_read_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "convserve.toml"
    if content:
        file.write_text(content)
    monkeypatch.setenv("CONVSERVE_CONFIG", str(file))
    with pytest.raises(InvalidSettings, match=r"CONVSERVE_CONFIG names .*convserve.toml"):
        load_settings()


def test_all_wrong_values_are_told_at_once_with_their_origin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONVSERVE_PORT", "70000")
    with pytest.raises(InvalidSettings) as caught:
        load_settings({"cores": "none", "root_path": "no-slash"})
    lines = str(caught.value).splitlines()
    assert [line.split(" = ")[0] for line in lines] == ["port", "root_path", "cores"]
    assert "CONVSERVE_PORT" in lines[0]
    assert "--cores" in lines[2]


def test_what_print_config_prints_is_a_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from convserve.cli import main

    monkeypatch.setenv("CONVSERVE_MODELS", "a,b")
    assert main(["print-config", "--cores", "1.5"]) == 0
    printed = capsys.readouterr().out
    assert "# CONVSERVE_MODELS" in printed
    file = tmp_path / "convserve.toml"
    file.write_text(printed)
    assert tomllib.loads(printed)["cores"] == 1.5
    before = load_settings({"cores": 1.5})
    monkeypatch.delenv("CONVSERVE_MODELS")
    monkeypatch.setenv("CONVSERVE_CONFIG", str(file))
    assert load_settings() == before
