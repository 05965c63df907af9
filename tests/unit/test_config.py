"""What the environment says, and that it never shows."""

import stat
from pathlib import Path

import pytest

from alih.config import Environment
from alih.errors import NeedsOperator, Refused


def environment(home: Path, **variables: str) -> Environment:
    return Environment(variables={"HOME": str(home), **variables})


def test_the_environment_is_the_process_s_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIH_SOURCE", "before")
    read = Environment.of_process()
    monkeypatch.setenv("ALIH_SOURCE", "after")
    assert read.variable("ALIH_SOURCE") == "before"


@pytest.mark.parametrize("variables", [{}, {"ALIH_SOURCE": ""}], ids=["missing", "empty"])
def test_a_variable_that_is_not_set_is_named_with_its_remedy(variables: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(NeedsOperator, match="ALIH_SOURCE is not set") as caught:
        environment(tmp_path, **variables).variable("ALIH_SOURCE")
    assert caught.value.remedy == "export ALIH_SOURCE=…, or name another source for it in alih.yaml"


def test_no_value_shows(tmp_path: Path) -> None:
    assert "hunter2" not in repr(environment(tmp_path, ALIH_SOURCE="postgresql://u:hunter2@db/x"))


def test_state_is_kept_under_the_home_and_closed_to_others(tmp_path: Path) -> None:
    made = environment(tmp_path).state_dir("shop-to-marketplace")
    assert made == tmp_path / ".local/state/alih/shop-to-marketplace"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert environment(tmp_path).state_dir("shop-to-marketplace") == made


def test_xdg_state_home_is_followed_when_absolute_and_ignored_when_not(tmp_path: Path) -> None:
    named = environment(tmp_path, XDG_STATE_HOME=str(tmp_path / "state"))
    assert named.state_dir("m") == tmp_path / "state/alih/m"
    assert environment(tmp_path, XDG_STATE_HOME="state").state_dir("m") == tmp_path / ".local/state/alih/m"


@pytest.mark.parametrize("name", ["", "../m", "Shop", "a" * 32, "1st", "a\n"])
def test_a_name_that_could_leave_the_directory_is_refused_and_nothing_made(name: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot name a migration"):
        environment(tmp_path).state_dir(name)
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_the_variable_to_set_is_named() -> None:
    with pytest.raises(NeedsOperator, match="neither XDG_STATE_HOME nor HOME") as caught:
        Environment(variables={"HOME": "", "XDG_STATE_HOME": "relative"}).state_dir("m")
    assert caught.value.remedy == "export XDG_STATE_HOME=/a/directory/of/yours"
