"""Settings: precedence, provenance, and errors that name file, key and nearest key."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headwater.core.config import fields, literal, load, value_of
from headwater.core.errors import Misconfigured
from headwater.core.secret import Secret
from headwater.core.units import ByteSize, Duration


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bytes_max: ByteSize = ByteSize(1024)
    """How much the log may hold."""

    commit_floor: Duration = Duration(0.0)


class Stream(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    partitions: int = 1


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str = "pi"
    """What this edge is called."""

    sink: bool = True
    password: Secret = Secret("")
    log: Log = Log()
    streams: tuple[Stream, ...] = ()


def _load(
    tmp_path: Path,
    text: str | None = None,
    environ: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> tuple[Settings, dict[str, str]]:
    file = None
    if text is not None:
        file = tmp_path / "headwater.toml"
        file.write_text(text)
    loaded = load(Settings, section="edge", file=file, environ=environ or {}, flags=flags or {})
    return loaded.value, loaded.origins


def test_flags_override_environment_overrides_file_overrides_default(tmp_path: Path) -> None:
    text = '[edge]\nname = "from-file"\n[edge.log]\nbytes_max = "64MiB"\n'
    environ = {"HEADWATER_EDGE__NAME": "from-env", "HEADWATER_EDGE__LOG__COMMIT_FLOOR": "250ms"}
    settings, origins = _load(tmp_path, text, environ, {"name": "from-flag", "sink": None})
    assert settings.name == "from-flag"
    assert settings.log == Log(bytes_max=ByteSize(64 << 20), commit_floor=Duration(0.25))
    assert settings.sink
    assert origins["name"] == "flag --name"
    assert origins["log.commit_floor"] == "environment HEADWATER_EDGE__LOG__COMMIT_FLOOR"
    assert origins["log.bytes_max"].startswith("file ")
    assert "sink" not in origins, "a default has no origin"


def test_environment_values_become_numbers_booleans_and_tables(tmp_path: Path) -> None:
    environ = {
        "HEADWATER_EDGE__SINK": "false",
        "HEADWATER_EDGE__STREAMS": '[{ name = "a", partitions = 3 }]',
    }
    settings, _ = _load(tmp_path, None, environ)
    assert settings.sink is False
    assert settings.streams == (Stream(name="a", partitions=3),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[edge]\nnmae = "x"\n', ["headwater.toml", "edge.nmae", "nearest: name"]),
        (
            "[edge.log]\nbyte_max = 1\n",
            ["headwater.toml", "edge.log.byte_max", "nearest: bytes_max"],
        ),
        ('[edge.log]\nbytes_max = "many"\n', ["headwater.toml", "edge.log.bytes_max", "64MiB"]),
        ('[[edge.streams]]\nname = "a"\nparts = 2\n', ["headwater.toml", "parts", "partitions"]),
        ("[egde]\n", ["headwater.toml", "[egde]", "nearest: edge"]),
        ("[edge\n", ["headwater.toml", "not valid TOML"]),
        ("[edge]\nlog = 3\n", ["headwater.toml", "edge.log"]),
        ("[edge.log]\ncommit_floor = -1\n", ["headwater.toml", "edge.log.commit_floor", "0s"]),
        ("[edge.log]\ncommit_floor = nan\n", ["headwater.toml", "edge.log.commit_floor", "0s"]),
        ("[edge.log]\nbytes_max = true\n", ["headwater.toml", "edge.log.bytes_max", "64MiB"]),
        ('[edge]\nname = "a\\u0000b"\n', ["headwater.toml", "edge.name", "NUL"]),
        ('[[edge.streams]]\nname = "\\u0000"\n', ["headwater.toml", "edge.streams", "NUL"]),
        ('[edge.streams]\nname = "a"\n', ["headwater.toml", "[[edge.streams]]"]),
    ],
)
def test_a_mistake_names_file_key_and_nearest_key(
    tmp_path: Path, text: str, said: list[str]
) -> None:
    with pytest.raises(Misconfigured) as caught:
        _load(tmp_path, text)
    for part in said:
        assert part in str(caught.value)


def test_a_mistake_about_a_secret_does_not_tell_it(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"edge\.password") as caught:
        _load(tmp_path, "[edge]\npassword = 27182818\n")
    assert "27182818" not in str(caught.value)
    with pytest.raises(Misconfigured, match="HEADWATER_EDGE__PASSWORD") as caught:
        _load(tmp_path, None, {"HEADWATER_EDGE__PASSWORD": "[27182818]"})
    assert "27182818" not in str(caught.value)


def test_a_mistake_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="HEADWATER_EDGE__LOG__BYTES"):
        _load(tmp_path, None, {"HEADWATER_EDGE__LOG__BYTES": "1"})


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no such configuration file"):
        load(Settings, section="edge", file=tmp_path / "none.toml", environ={}, flags={})


def test_every_setting_is_listed_with_type_default_and_documentation() -> None:
    listed = {field.key: field for field in fields(Settings)}
    assert list(listed) == [
        "name",
        "sink",
        "password",
        "log.bytes_max",
        "log.commit_floor",
        "streams",
    ]
    assert listed["log.bytes_max"].doc == "How much the log may hold."
    assert literal(listed["log.bytes_max"].default) == '"1KiB"'
    assert value_of(Settings(), "log.bytes_max") == 1024


def test_literals_read_back_as_the_same_value(tmp_path: Path) -> None:
    for value in (ByteSize(3 << 20), Duration(0.25), Duration(7 * 86400)):
        kind = type(value)
        assert kind.parse(str(value)) == value
