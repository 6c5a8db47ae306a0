"""Configuration has one place, is checked at the start, and its page is current."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest

from kinpay.primitives.server_keys import ServerKeys
from kinpay.server.secret_file import read_keys
from kinpay.server.settings import SETTINGS, Settings, SettingsWrong, read_settings, shown, unknown_names


def test_every_field_is_a_setting_with_a_meaning() -> None:
    assert [field.name for field in dataclasses.fields(Settings)] == [setting.field for setting in SETTINGS]
    assert all(setting.meaning.endswith(".") for setting in SETTINGS)


def test_nothing_set_is_a_laptop() -> None:
    settings = read_settings({"KINPAY_HOME": "/srv/kinpay"})
    assert settings.embedded
    assert settings.secret_file == Path("/srv/kinpay/secret")
    assert settings.keyring == Path("/srv/kinpay/keyring")
    assert (settings.host, settings.port, settings.worker) == ("127.0.0.1", 8700, "inside")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KINPAY_PORT", "65536"),
        ("KINPAY_PORT", "tcp://10.0.0.1:80"),
        ("KINPAY_PORT", "٨٠"),
        ("KINPAY_HOME", "relative"),
        ("KINPAY_DATABASE_URL", "mysql://a/b"),
        ("KINPAY_PUBLIC_URL", "kinpay.example"),
        ("KINPAY_CODE_CHANNEL", "carrier-pigeon:x"),
        ("KINPAY_CODE_CHANNEL", "file:/tmp/codes"),
        ("KINPAY_CODE_CHANNEL", "webhook:https://codes.example"),
        ("KINPAY_CODE_WEBHOOK_SECRET", "short"),
        ("KINPAY_WORKER", "sometimes"),
        ("KINPAY_MAX_CONNECTIONS", "1"),
        ("KINPAY_PROVIDER_TIMEOUT_S", "nan"),
        ("KINPAY_DEMO", "yes"),
        ("KINPAY_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_said_with_its_name(name: str, text: str) -> None:
    with pytest.raises(SettingsWrong) as caught:
        read_settings({name: text})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(name)


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsWrong) as caught:
        read_settings({"KINPAY_PORT": "x", "KINPAY_WORKER": "x"})
    assert len(caught.value.problems) == 2


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "kinpay.conf"
    file.write_text("# a comment\n\nKINPAY_PORT = 9000\nKINPAY_HOST=::1\n")
    settings = read_settings({"KINPAY_CONFIG": str(file), "KINPAY_PORT": "9001"})
    assert (settings.port, settings.host) == (9001, "::1")


def test_a_misspelt_name_in_the_file_is_an_error_with_a_guess(tmp_path: Path) -> None:
    file = tmp_path / "kinpay.conf"
    file.write_text("KINPAY_PROT=9000\n")
    with pytest.raises(SettingsWrong, match="Is it KINPAY_PORT"):
        read_settings({"KINPAY_CONFIG": str(file)})
    assert unknown_names({"KINPAY_PROT": "9000"}) == ["KINPAY_PROT is no setting. Is it KINPAY_PORT?"]
    assert unknown_names({"KINPAY_CODES": "what the demo exports"}) == []


def test_what_is_shown_hides_what_is_secret() -> None:
    settings = read_settings(
        {
            "KINPAY_DATABASE_URL": "postgresql://kinpay:hunter2@db/kinpay",
            "KINPAY_CODE_CHANNEL": "webhook:https://codes.example",
            "KINPAY_CODE_WEBHOOK_SECRET": "hunter2" * 4,
        }
    )
    text = str(shown(settings)) + repr(dataclasses.replace(settings, database_url=None))
    assert "hunter2" not in text
    assert "postgresql://kinpay:…@db/kinpay" in text


def test_the_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "home" / "secret"
    made = read_keys(file, may_create=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_keys(file, may_create=True).key("x") == made.key("x")
    assert [path.name for path in file.parent.iterdir()] == ["secret"]


def test_a_missing_or_bad_secret_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    with pytest.raises(SettingsWrong, match="missing"):
        read_keys(file, may_create=False)
    for text in ("", "c2hvcnQ=\n", "not base64!\n"):
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(SettingsWrong, match="32"):
            read_keys(file, may_create=True)
    file.chmod(0o644)
    with pytest.raises(SettingsWrong, match="chmod 600"):
        read_keys(file, may_create=True)


def test_after_a_rotation_the_older_secret_still_opens(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    older = read_keys(file, may_create=True)
    sealed = older.seal(b"x", purpose="p", bound_to="row")
    newer = read_keys(tmp_path / "other", may_create=True)
    file.write_text((tmp_path / "other").read_text() + file.read_text())
    both: ServerKeys = read_keys(file, may_create=False)
    assert both.key("p") == newer.key("p")
    assert both.unseal(sealed, purpose="p", bound_to="row") == b"x"
