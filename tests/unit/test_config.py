"""The server's settings: where they come from, what is refused, and what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from cqar.errors import InvalidError
from cqar.server.__main__ import main
from cqar.server.config import Config, database_host, fields, load, redacted

SECRET = "s3cret"
URL = f"postgresql://cqar:{SECRET}@db.example:5433/registry?sslmode=require&sslpassword={SECRET}"


def settings_file(folder: Path, text: str) -> Path:
    """Write a settings file."""
    path = folder / "cqar.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_serve_on_loopback_with_an_embedded_database() -> None:
    """Nothing configured gives a server that only this machine reaches and that brings its own database."""
    config = load(environment={})
    assert (config.listen, config.database) == ("127.0.0.1:7433", "")
    assert config.snapshot_root == str(config.data_dir / "snapshots")
    assert config.postgres_dir == config.data_dir / "postgres"


def test_flags_win_over_variables_over_the_file_over_defaults(tmp_path: Path) -> None:
    """Each source overrides the ones after it, setting by setting."""
    file = settings_file(tmp_path, "workers = 3\nsnapshot_keep = 4\nheartbeat_interval = 7\n")
    variables = {"CQAR_WORKERS": "5", "CQAR_SNAPSHOT_KEEP": "6", "CQAR_CONFIG": str(file)}
    config = load({"workers": "9", "snapshot_keep": None}, environment=variables)
    assert (config.workers, config.snapshot_keep, config.heartbeat_interval) == (9, 6, 7.0)
    assert config.poll_interval == Config().poll_interval


def test_a_file_given_by_flag_replaces_the_one_of_the_environment(tmp_path: Path) -> None:
    """The file named on the command line is the one that is read."""
    file = settings_file(tmp_path, "workers = 3\n")
    assert load(environment={"CQAR_CONFIG": "/nowhere.toml"}, file=file).workers == 3


def test_an_empty_variable_counts_as_absent() -> None:
    """`CQAR_DATABASE=` in a compose file means the default, not an error."""
    assert load(environment={"CQAR_DATABASE": "", "CQAR_WORKERS": ""}) == load(environment={})


def test_every_setting_can_be_given_as_text() -> None:
    """The default of each setting, written as text, is read back as the same value from a variable."""
    shown = {field.variable: str(field.default) for field in fields() if field.default is not None}
    assert load(environment=shown) == load(environment={})


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CQAR_WORKERS", "many", "CQAR_WORKERS: 'many': Expected `int`"),
        ("CQAR_WORKERS", "0", "CQAR_WORKERS: '0': Expected `int` >= 1"),
        ("CQAR_POLL_INTERVAL", "nan", "Expected `float` >= 0.01"),
        ("CQAR_POLL_INTERVAL", "inf", "Expected `float` <= 86400"),
        ("CQAR_REFLECTION", "perhaps", "Expected `bool`"),
        ("CQAR_LOG_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR"),
        ("CQAR_LISTEN", "7433", "is not HOST:PORT"),
        ("CQAR_LISTEN", "127.0.0.1:70000", "is not HOST:PORT"),
    ],
)
def test_a_bad_value_is_refused_with_its_place_and_the_rule(variable: str, value: str, said: str) -> None:
    """The error names the variable and says what would be right."""
    with pytest.raises(InvalidError) as caught:
        load(environment={variable: value})
    assert said in caught.value.message
    assert caught.value.field == variable.removeprefix("CQAR_").lower()


def test_an_unknown_key_in_the_file_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """A misspelt setting is an error, not a default in disguise."""
    with pytest.raises(InvalidError, match="unknown: worker; known are listen, database,"):
        load(environment={}, file=settings_file(tmp_path, "worker = 3\n"))


@pytest.mark.parametrize("text", ["workers = \n", "\x00", "workers = 'x'\n"])
def test_a_bad_file_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    """An error in the file names the file."""
    file = settings_file(tmp_path, text)
    with pytest.raises(InvalidError, match=str(file)):
        load(environment={}, file=file)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A settings file that was asked for and is not there is never skipped."""
    with pytest.raises(InvalidError, match="No such file"):
        load(environment={}, file=tmp_path / "absent.toml")


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    """Neither repr nor str nor an error shows a password, in whichever part of the URL it stands."""
    config = Config(database=URL)
    for text in (repr(config), str(config), f"{config}", redacted(URL)):
        assert SECRET not in text
        assert "cqar:***@db.example:5433/registry" in text
    with pytest.raises(InvalidError) as caught:
        load(environment={}, file=settings_file(tmp_path, f'database = ["{URL}"]\n'))
    assert SECRET not in caught.value.message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://:{SECRET}@cache.example:6379/0", "redis://:***@cache.example:6379/0"),
        (f"rediss://cqar:{SECRET}@cache.example?ssl_cert_reqs=none", "rediss://cqar:***@cache.example"),
        (f"unix:///run/redis.sock?db=1&password={SECRET}", "redis.sock?db=1&password=***"),
    ],
)
def test_the_password_of_a_redis_is_never_shown(tmp_path: Path, url: str, shown: str) -> None:
    """Neither the settings nor an error about them show it."""
    config = Config(redis=url)
    for text in (repr(config), str(config), redacted(url)):
        assert SECRET not in text
        assert shown in text
    with pytest.raises(InvalidError) as caught:
        load(environment={}, file=settings_file(tmp_path, f'redis = ["{url}"]\n'))
    assert SECRET not in caught.value.message


@pytest.mark.parametrize("url", [f"host=db password={SECRET}", f"postgresql://u:{SECRET}@[::1/x"])
def test_what_is_not_a_url_is_not_shown_at_all(url: str) -> None:
    """A text that cannot be taken apart may hold a password anywhere."""
    assert redacted(url) == "***"


def test_the_host_of_a_url_is_told() -> None:
    """An error message can name the database's host or the folder of its socket."""
    assert database_host(URL) == "db.example:5433"
    assert database_host("postgresql://postgres@/db?host=/run/cqar") == "/run/cqar"
    assert database_host("postgresql:///db") == "localhost"


def test_every_setting_explains_itself() -> None:
    """A command line and a reference can be made from the fields: all have help, a flag and a variable."""
    assert [field.name for field in fields()] == list(Config.__struct_fields__)
    for field in fields():
        assert field.help.endswith(".")
        assert field.flag == f"--{field.name.replace('_', '-')}"


def test_help_lists_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` shows each setting with its flag and its variable."""
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    for field in fields():
        assert field.flag in text
        assert field.variable in text


def test_a_wrong_flag_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """The program refuses a bad setting with its name, one line, and exit code 1."""
    assert main(["--workers", "none"]) == 1
    error = capsys.readouterr().err
    assert error == "cqar serve: --workers: 'none': Expected `int`, got `str`\n"
