"""The command line: statuses, one-line errors, and no room loaded before it is asked for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.cli import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: headwater {command}" in capsys.readouterr().out


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["egde"])
    assert ended.value.code == 2
    assert "egde" in capsys.readouterr().err


def test_what_this_account_may_not_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(_: object) -> int:
        raise PermissionError(13, "Permission denied", "/var/lib/x/log")

    monkeypatch.setattr("headwater.commands.log.run", denied)
    assert main(["log", "verify", "/var/lib/x"]) == 1
    assert capsys.readouterr().err == "headwater: /var/lib/x/log: permission denied\n"


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("headwater 0.")


@pytest.mark.parametrize("command", ["edge", "cloud", "sink"])
def test_a_wrong_setting_ends_a_daemon_with_78(command: str, tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(f'[{command}]\nhtpp = "127.0.0.1:1"\n')
    out = subprocess.run(
        [sys.executable, "-m", "headwater", command, "--config", str(file)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert out.returncode == 78
    assert out.stderr.count("\n") == 1, out.stderr
    assert f"{command}.htpp" in out.stderr
    assert "nearest: http" in out.stderr


LISTENER = '[[edge.listeners]]\nname = "tls"\naddress = "0.0.0.0:0"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[edge]\nmqtt = "0.0.0.0:1883"\n', "edge.mqtt can be reached by other machines"),
        (LISTENER, "edge.listeners 'tls' can be reached by other machines"),
        ('[edge]\nmqtt = "1883"\n', "edge.mqtt must be HOST:PORT"),
        ('[edge]\nuplink = "cloud:9092"\n', "edge.uplink must be kafkas://"),
        ('[edge.journal]\nbytes_max = "1MiB"\n', "edge.journal.bytes_max 1MiB must hold"),
        ("[edge.uplink_options]\nin_flight = 9\n", "edge.uplink_options.in_flight 9"),
        (
            '[edge.uplink_options.shaping]\nwindow = "1-5"\n',
            "edge.uplink_options.shaping.window: '1-5'",
        ),
        ('[[edge.streams]]\nname = "a/b"\n', "edge.streams 'a/b'"),
        (
            '[[edge.streams]]\nname = "a"\ndurability = "intervall"\n',
            "edge.streams[0].durability: Invalid enum value 'intervall' (one of: sync, interval,",
        ),
        ('[edge]\nlog_level = "loud"\n', "edge.log_level: Invalid enum value 'loud' (one of: "),
        ("[mqtt]\n", "unknown section [mqtt] (there are: edge, cloud, sink)"),
        ("listener 1883\n", "(try: headwater config --example)"),
    ],
)
def test_what_is_wrong_names_the_file_the_key_and_what_helps(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(text)
    assert main(["edge", "--config", str(file), "--data-dir", str(tmp_path / "data")]) == 78
    error = capsys.readouterr().err
    assert str(file) in error
    assert said in error
    assert not (tmp_path / "data").exists()


def test_a_wrong_setting_of_the_environment_is_not_blamed_on_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text('[edge]\nname = "pi-7"\n')
    monkeypatch.setenv("HEADWATER_EDGE__UPLINK_OPTIONS__IN_FLIGHT", "9")
    assert main(["edge", "--config", str(file)]) == 78
    error = capsys.readouterr().err
    assert "environment HEADWATER_EDGE__UPLINK_OPTIONS__IN_FLIGHT: edge.uplink_options" in error
    assert str(file) not in error


@pytest.mark.parametrize("command", [["cloud"], ["sink"], ["query", "select 1"], ["verify"]])
def test_where_only_the_edge_is_installed_the_cloud_says_what_to_install(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(command) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'headwater[cloud]'" in said


def test_settings_are_shown_with_their_origin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text('[edge]\nname = "pi-7"\n')
    monkeypatch.setenv("HEADWATER_EDGE__HTTP", "127.0.0.1:9")
    assert main(["config", "--show", "--config", str(file), "--section", "edge"]) == 0
    shown = capsys.readouterr().out
    assert f'edge.name = "pi-7"  # file {file}' in shown
    assert 'edge.http = "127.0.0.1:9"  # environment HEADWATER_EDGE__HTTP' in shown
    assert "edge.mqtt = " in shown
    assert "# default" in shown


def test_an_edge_open_to_anybody_by_mistake_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["edge", "--data-dir", str(tmp_path), "--mqtt", "0.0.0.0:0", "--http", "none"]
    assert main(arguments) == 78
    assert "anonymous = true" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_example_file_is_that_of_the_settings_and_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "--example"]) == 0
    example = capsys.readouterr().out
    kept = Path(__file__).resolve().parent.parent / "deploy" / "headwater.example.toml"
    assert kept.read_text(encoding="utf-8") == example, "run `make docs`"
    # every commented default is a valid setting: uncomment them all and load
    uncommented = re.sub(r"(?m)^# ([a-z_]+ = )", r"\1", example)
    assert "segment_bytes = " in uncommented
    file = tmp_path / "headwater.toml"
    file.write_text(uncommented)
    for section in ("edge", "cloud", "sink"):
        assert main(["config", "--show", "--config", str(file), "--section", section]) == 0
