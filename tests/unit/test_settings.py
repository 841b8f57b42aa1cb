"""Settings: defaults, mappings, the environment, TOML, and what is refused."""

from __future__ import annotations

import json
import pickle
from datetime import timedelta
from functools import partial
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempscope.errors import ConfigurationError
from tempscope.policies import DeleteOnClose, ExpireAfter, KeepAll, KeepLast, KeepOnFailure, keep_if_any
from tempscope.settings import Settings


DEFAULTS = {
    "backend": "disk",
    "base_dir": None,
    "application": None,
    "policy": "delete_on_close",
    "label": None,
    "strict": False,
    "sweep_on_start": True,
    "background_removal": False,
    "trust_locks": False,
    "threshold": "0B",
    "verify_content": False,
    "quota": None,
    "max_bytes": None,
    "max_files": None,
    "spill": True,
    "spill_above": None,
    "janitor_interval": "30m",
    "janitor_jitter": 0.1,
    "janitor_entries": None,
    "janitor_seconds": None,
    "janitor_bytes_per_second": None,
}
FLAGS = ("strict", "sweep_on_start", "background_removal", "trust_locks", "verify_content", "spill")


def test_the_defaults():
    """Without any configuration the settings are these."""
    assert Settings().as_dict() == DEFAULTS
    assert Settings().policy == DeleteOnClose()


@pytest.mark.parametrize("mapping", [None, {}, {"backend": None}, dict.fromkeys(DEFAULTS)])
def test_what_is_absent_or_none_is_the_default(mapping):
    """An absent mapping, an empty one, and values that are None give the defaults."""
    assert Settings.from_mapping(mapping) == Settings()
    assert Settings.from_mapping() == Settings()


def test_a_partial_mapping_leaves_the_rest_at_its_default():
    """What stands in a mapping is taken, the rest is the default."""
    settings = Settings.from_mapping({"backend": "ram", "policy": {"kind": "keep_on_failure", "at_most": 5}})
    assert settings == Settings(backend="ram", policy=KeepOnFailure(at_most=5))


def test_values_are_taken_in_every_form_they_have():
    """Sizes, numbers, flags, paths and policies are taken as objects and as their text."""
    written = Settings.from_mapping(
        {
            "backend": "memory",
            "base_dir": "/var/tmp",
            "policy": "keep_all",
            "max_bytes": "1KiB",
            "max_files": " 7 ",
            "spill_above": "1GB",
            "strict": "Yes",
            "janitor_interval": "90m",
            "janitor_entries": "100",
            "janitor_seconds": "1m",
            "janitor_bytes_per_second": "1MiB",
        }
    )
    built = Settings(
        backend="memory",
        base_dir=Path("/var/tmp"),
        policy=KeepAll(),
        max_bytes=1024,
        max_files=7,
        spill_above="1000MB",
        strict=True,
        janitor_interval=timedelta(hours=1.5),
        janitor_entries=100,
        janitor_seconds=60,
        janitor_bytes_per_second=1 << 20,
    )
    assert written == built
    assert (built.max_bytes, built.spill_above) == (1024, "1GB")
    linking = Settings.from_mapping({"backend": "hardlink", "threshold": "1024KiB"})
    assert linking == Settings(backend="hardlink", threshold="1MiB")
    assert linking.threshold == "1MiB"


@pytest.mark.parametrize("backend", ["disk", "ram", "memory"])
def test_a_threshold_is_for_links_only(backend):
    """A threshold with a backend that never links would be ignored: it is refused, with what is right."""
    with pytest.raises(ConfigurationError, match=f"^threshold cannot be '1MiB' with backend '{backend}'"):
        Settings(backend=backend, threshold="1MiB")
    assert Settings(backend=backend, threshold="0B").threshold == "0B"


def test_a_bare_number_is_a_size_only_under_a_name_in_bytes():
    """max_bytes takes a bare number of bytes, also as text; the other sizes want a unit."""
    for value in (1024, "1024"):
        assert Settings.from_mapping({"backend": "memory", "max_bytes": value}).max_bytes == 1024
    for key in ("threshold", "spill_above"):
        for value in (1024, "1024"):
            with pytest.raises(
                ConfigurationError, match=rf"^{key} cannot be {value!r}: a bare number has no unit"
            ):
                Settings.from_mapping({key: value})


@pytest.mark.parametrize("key", FLAGS)
@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        *((word, True) for word in ("true", "YES", " on ", "1", True)),
        *((word, False) for word in ("False", "no", "off", "0", False)),
    ],
)
def test_flags_are_written_in_these_words(key, word, meaning):
    """A flag is true, yes, on or 1, or false, no, off or 0, in any case."""
    assert getattr(Settings.from_mapping({key: word}), key) is meaning


def test_the_home_directory_is_filled_in(monkeypatch):
    """A leading ~ in base_dir is the home directory."""
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Settings(base_dir="~/scratch").base_dir == Path("/home/somebody/scratch")
    assert Settings(base_dir=Path("~/scratch")).base_dir == Path("/home/somebody/scratch")


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("backend", "disc", "'disk', 'ram', 'memory' or 'hardlink'; did you mean 'disk'?"),
        ("backend", "Disk", "'disk', 'ram'"),
        ("backend", 3, "'disk', 'ram'"),
        ("backend", [], "'disk', 'ram'"),
        ("base_dir", "", "path of a directory"),
        ("base_dir", 3, "path of a directory"),
        ("base_dir", b"/tmp", "path of a directory"),
        ("base_dir", "/tmp/\0", "path of a directory"),
        ("application", " ", "not empty"),
        ("label", 3, "text"),
        ("strict", "maybe", "true, yes, on or 1, or false, no, off or 0"),
        ("spill", 1, "true, yes"),
        ("sweep_on_start", [], "true, yes"),
        ("trust_locks", "", "true, yes"),
        ("background_removal", 0.0, "true, yes"),
        ("threshold", "-1B", "at least 0B"),
        ("threshold", True, "'10GiB'"),
        ("quota", 0, "at least 1B"),
        ("quota", "much", "'10GiB'"),
        ("max_bytes", 0, "at least 1B"),
        ("max_bytes", 1.5, "'10GiB'"),
        ("max_files", 0, "at least 1"),
        ("max_files", "-3", "whole number"),
        ("max_files", "many", "whole number"),
        ("max_files", True, "whole number"),
        ("max_files", "9" * 5000, "whole number"),
        ("spill_above", "1G", "'10GiB'"),
        ("spill_above", "0B", "at least 1B"),
        ("janitor_interval", "0s", "more than"),
        ("janitor_interval", "-1h", "more than"),
        ("janitor_interval", 30, "has no unit"),
        ("janitor_interval", "Off", "duration"),
        ("janitor_interval", float("nan"), "has no unit"),
        ("janitor_jitter", 1.5, "from 0 to 1"),
        ("janitor_jitter", "-0.1", "from 0 to 1"),
        ("janitor_jitter", "some", "from 0 to 1"),
        ("janitor_jitter", True, "from 0 to 1"),
        ("janitor_jitter", float("nan"), "from 0 to 1"),
        ("janitor_entries", 0, "at least 1"),
        ("janitor_entries", "many", "whole number"),
        ("janitor_seconds", 0, "more than"),
        ("janitor_seconds", float("inf"), "janitor_seconds"),
        ("janitor_bytes_per_second", "0B", "at least 1B"),
        ("policy", "keep_al", "did you mean 'keep_all'?"),
    ],
)
def test_a_bad_value_is_named_with_its_key_and_what_is_allowed(key, value, allowed):
    """A bad value raises an error that names the key, the value and what is allowed."""
    for build in (Settings.from_mapping, lambda mapping: Settings(**mapping)):
        with pytest.raises(ConfigurationError) as caught:
            build({key: value})
        assert str(caught.value).startswith(f"{key} cannot be {value!r}"[:100])
        assert allowed in str(caught.value)


@pytest.mark.parametrize("key", ["backnd", "BACKEND", "spil_above", "xyz", 3, None])
def test_an_unknown_key_is_refused(key):
    """An unknown key raises, even with None, naming key, value, all settings and the nearest one."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_mapping({"backend": "disk", key: None})
    message = str(caught.value)
    assert message.startswith(
        f"there is no setting {key!r} (given as None): the settings are backend, base_dir, "
    )
    near = {"backnd": "backend", "spil_above": "spill_above"}.get(key)
    assert message.endswith(f"; did you mean {near!r}?" if near else ", janitor_bytes_per_second")


@pytest.mark.parametrize("mapping", [[], "backend", 3])
def test_settings_come_from_a_mapping(mapping):
    """What is no mapping is refused."""
    with pytest.raises(ConfigurationError, match="must be a mapping"):
        Settings.from_mapping(mapping)


def test_settings_in_place_of_a_mapping():
    """Settings in place of a mapping are refused with the name of what makes one of them."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_mapping(Settings())
    assert str(caught.value) == (
        "settings cannot be a Settings: they must be a mapping, which its as_dict() gives"
    )


def test_nothing_can_spill_above_a_size_while_nothing_may_spill():
    """spill_above without spill contradicts itself and is refused."""
    with pytest.raises(ConfigurationError, match="spill_above cannot be '1MiB' while spill is False"):
        Settings(backend="memory", spill=False, spill_above="1MiB")
    assert Settings(backend="memory", spill=True, spill_above="1MiB").spill_above == "1MiB"


@pytest.mark.parametrize("key", ["max_files", "spill_above"])
def test_only_the_memory_storage_has_limits(key):
    """A limit with another backend would do nothing and is refused, wherever the two come from."""
    value, shown, written = ("7B", "'7B'", "'7B'") if key == "spill_above" else (7, "7", "7")
    for backend in ("disk", "ram", "hardlink"):
        message = (
            f"{key} cannot be {shown} with backend {backend!r}: it applies to backend 'memory' only; "
            "leave it out, or set backend to 'memory'"
        )
        with pytest.raises(ConfigurationError) as caught:
            Settings.from_mapping({key: value, "backend": backend})
        assert str(caught.value) == message
        variable = f"TEMPSCOPE_{key.upper()}"
        with pytest.raises(ConfigurationError) as caught:
            Settings.from_env({variable: str(value), "TEMPSCOPE_BACKEND": backend})
        assert str(caught.value) == f"the environment variable {variable}: {message}"
        with pytest.raises(ConfigurationError) as caught:
            Settings.from_toml(f"[tempscope]\n{key} = {written}\nbackend = {backend!r}")
        assert str(caught.value) == f"in the TOML text: {message}"
    with pytest.raises(ConfigurationError, match=f"{shown} with backend 'disk'"):
        Settings(**{key: value})
    environ = {f"TEMPSCOPE_{key.upper()}": str(value), "TEMPSCOPE_BACKEND": "memory"}
    assert Settings.from_env(environ) == Settings(**{key: value}, backend="memory")


@pytest.mark.parametrize("flag", ["sweep_on_start", "background_removal", "trust_locks", "spill"])
@pytest.mark.parametrize("backend", ["disk", "ram", "memory", "hardlink"])
def test_flags_go_with_every_backend(flag, backend):
    """One set of flags does for all backends, so that changing the backend alone is enough."""
    for value in (True, False):
        assert getattr(Settings(**{flag: value}, backend=backend), flag) is value


@pytest.mark.parametrize("backend", ["disk", "ram", "hardlink", "memory"])
def test_every_storage_has_a_limit_of_bytes(backend):
    """max_bytes and quota go with every backend, as a number of bytes or with a unit."""
    settings = Settings(backend=backend, max_bytes="1KiB", quota="2KiB")
    assert (settings.max_bytes, settings.quota) == (1024, "2KiB")
    assert Settings(quota=2048) == Settings(quota="2048") == Settings(quota="2KiB")


def test_settings_are_a_value():
    """Settings are frozen, compare by value, and survive evolving and pickling."""
    settings = Settings(policy=KeepOnFailure(for_="3d"), backend="memory", max_bytes=7, base_dir="/x")
    assert attrs.evolve(settings) == settings == pickle.loads(pickle.dumps(settings))
    assert hash(settings) == hash(attrs.evolve(settings))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        settings.backend = "ram"
    with pytest.raises(TypeError):
        Settings("ram")


sizes = st.integers(1, 2**50).map(lambda size: f"{size}B")
policies = st.recursive(
    st.one_of(
        st.just(DeleteOnClose()),
        st.just(KeepAll()),
        st.builds(
            KeepOnFailure,
            at_most=st.none() | st.integers(1, 99),
            for_=st.none() | st.integers(1, 10**9).map(lambda n: f"{n}ms"),
            up_to=st.none() | sizes,
        ),
        st.builds(KeepLast, st.integers(1, 99)),
        st.builds(ExpireAfter, st.timedeltas(timedelta(seconds=1), timedelta(days=9999))),
    ),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda members: keep_if_any(*members)),
    max_leaves=3,
)
words = st.none() | st.text(min_size=1).filter(str.strip)
limits = st.none() | st.integers(1, 2**50)
settings_of_any_backend = partial(
    st.builds,
    Settings,
    base_dir=st.none()
    | st.text(st.characters(exclude_characters="\0~", exclude_categories=["Cs"]), min_size=1),
    application=words,
    policy=policies,
    label=words,
    strict=st.booleans(),
    sweep_on_start=st.booleans(),
    background_removal=st.booleans(),
    trust_locks=st.booleans(),
    verify_content=st.booleans(),
    janitor_jitter=st.floats(0, 1),
    quota=st.none() | sizes,
    max_bytes=limits,
)
settings_of_any_kind = st.one_of(
    settings_of_any_backend(backend=st.sampled_from(["disk", "ram"])),
    settings_of_any_backend(backend=st.just("hardlink"), threshold=st.just("0B") | sizes),
    settings_of_any_backend(backend=st.just("memory"), max_files=limits, spill_above=st.none() | sizes),
)


@given(settings_of_any_kind)
def test_as_dict_is_read_back(settings):
    """as_dict gives plain types, also for JSON, from which the same settings are made."""
    plain = settings.as_dict()
    assert list(plain) == list(DEFAULTS)
    assert Settings.from_mapping(plain) == settings
    assert Settings.from_mapping(json.loads(json.dumps(plain))) == settings


def test_the_environment_has_every_setting():
    """Each setting has a variable, named TEMPSCOPE_ and the setting in capitals; others are not looked at."""
    environ = {
        "PATH": "/bin",
        "tempscope_backend": "x",
        "TEMPSCOPE_BACKEND": "memory",
        "TEMPSCOPE_BASE_DIR": "/var/tmp",
        "TEMPSCOPE_APPLICATION": "cutter",
        "TEMPSCOPE_POLICY": '{kind = "keep_on_failure", at_most = 5, for = "3d"}',
        "TEMPSCOPE_LABEL": "video",
        "TEMPSCOPE_STRICT": "yes",
        "TEMPSCOPE_SWEEP_ON_START": "no",
        "TEMPSCOPE_BACKGROUND_REMOVAL": "on",
        "TEMPSCOPE_TRUST_LOCKS": "1",
        "TEMPSCOPE_THRESHOLD": "0KiB",
        "TEMPSCOPE_VERIFY_CONTENT": "on",
        "TEMPSCOPE_QUOTA": "1024",
        "TEMPSCOPE_MAX_BYTES": "1024",
        "TEMPSCOPE_MAX_FILES": "1000",
        "TEMPSCOPE_SPILL": "true",
        "TEMPSCOPE_SPILL_ABOVE": "64MiB",
        "TEMPSCOPE_JANITOR_INTERVAL": "off",
        "TEMPSCOPE_JANITOR_JITTER": "0.25",
        "TEMPSCOPE_JANITOR_ENTRIES": "100",
        "TEMPSCOPE_JANITOR_SECONDS": "60",
        "TEMPSCOPE_JANITOR_BYTES_PER_SECOND": "1KiB",
    }
    assert Settings.from_env(environ).as_dict() == {
        "backend": "memory",
        "base_dir": "/var/tmp",
        "application": "cutter",
        "policy": {
            "kind": "keep_on_failure",
            "on": ["failed", "never_closed"],
            "at_most": 5,
            "for": "3d",
            "up_to": "10GiB",
        },
        "label": "video",
        "strict": True,
        "sweep_on_start": False,
        "background_removal": True,
        "trust_locks": True,
        "threshold": "0B",
        "verify_content": True,
        "quota": "1KiB",
        "max_bytes": 1024,
        "max_files": 1000,
        "spill": True,
        "spill_above": "64MiB",
        "janitor_interval": "off",
        "janitor_jitter": 0.25,
        "janitor_entries": 100,
        "janitor_seconds": 60.0,
        "janitor_bytes_per_second": 1024,
    }
    assert {name for name in environ if name.startswith("TEMPSCOPE_")} == {
        f"TEMPSCOPE_{name.upper()}" for name in DEFAULTS
    }


def test_this_processs_environment_is_the_usual_one(monkeypatch):
    """Without an argument the variables of this process count."""
    monkeypatch.setenv("TEMPSCOPE_BACKEND", "ram")
    assert Settings.from_env().backend == "ram"
    assert Settings.from_env({}) == Settings()


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_is_as_good_as_none(value):
    """An empty variable is the default."""
    assert Settings.from_env({f"TEMPSCOPE_{name.upper()}": value for name in DEFAULTS}) == Settings()


def test_an_unknown_variable_is_refused_without_its_value():
    """An unknown TEMPSCOPE_ variable raises, naming it and the nearest known one, but not what it holds."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({"TEMPSCOPE_BACKND": "hunter2"})
    message = str(caught.value)
    assert message.startswith("the environment variable 'TEMPSCOPE_BACKND' is no setting: ")
    assert message.endswith("did you mean 'TEMPSCOPE_BACKEND'?")
    assert "hunter2" not in message


def test_a_bad_variable_is_named():
    """A variable with a bad value raises an error that names the variable, the value and what is allowed."""
    with pytest.raises(
        ConfigurationError, match=r"variable TEMPSCOPE_STRICT: strict cannot be 'maybe': .*true, yes"
    ):
        Settings.from_env({"TEMPSCOPE_BACKEND": "ram", "TEMPSCOPE_STRICT": "maybe"})
    with pytest.raises(ConfigurationError, match="spill_above cannot be '1MiB' while spill is False"):
        Settings.from_env(
            {"TEMPSCOPE_BACKEND": "memory", "TEMPSCOPE_SPILL": "no", "TEMPSCOPE_SPILL_ABOVE": "1MiB"}
        )


DOCUMENT = """
[{table}]
backend = "hardlink"
threshold = "1KiB"
strict = true

[{table}.policy]
in_order = ["keep_on_failure", {{kind = "size_budget", max_bytes = "1GiB"}}]
"""


@pytest.mark.parametrize("table", ["tempscope", "tool.tempscope"])
def test_toml_has_the_settings_in_a_table(tmp_path, table):
    """The settings stand in [tempscope] or [tool.tempscope], in text or in a file; others do not count."""
    text = DOCUMENT.format(table=table) + "\n[tool.other]\nbackend = 3\n[project]\nname = 'x'\n"
    file = tmp_path / "a=b.toml"
    file.write_text(text)
    plain = tmp_path / "plain.toml"
    plain.write_text(text)
    settings = Settings.from_toml(text)
    assert settings == Settings.from_toml(file) == Settings.from_toml(plain) == Settings.from_toml(str(plain))
    assert (settings.backend, settings.threshold, settings.strict) == ("hardlink", "1KiB", True)
    assert repr(settings.policy).startswith("in_order(KeepOnFailure(")


@pytest.mark.parametrize("text", ["", "\n", "[tool.other]\nx = 1", "[tempscope]", "tool = 3", "name = 'x'"])
def test_toml_without_settings_is_the_defaults(text):
    """A document without a table of ours, or with an empty one, gives the defaults."""
    assert Settings.from_toml(text) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tempscope", r"^in the TOML text: that is no TOML: "),
        (
            "[tempscope]\nbackend = 'disc'",
            r"^in the TOML text: backend cannot be 'disc': .*did you mean 'disk'",
        ),
        ("[tempscope]\nbackent = 'disk'", r"no setting 'backent' \(given as 'disk'\)"),
        ("backend = 'disk'", r"'backend' stands in no table; .*under \[tempscope\]"),
        ("[tempscope]\n[tool.tempscope]", r"both \[tempscope\] and \[tool\.tempscope\]"),
        ("tempscope = 3", r"tempscope cannot be 3: it must be a table"),
    ],
)
def test_bad_toml_is_refused(text, message):
    """What is no TOML, has settings in the wrong place, or bad ones, raises an error that says so."""
    with pytest.raises(ConfigurationError, match=message):
        Settings.from_toml(text)


def test_a_bad_toml_file_is_named(tmp_path):
    """A file that is missing, is no text or holds a bad value raises an error with its path."""
    bad = tmp_path / "bad.toml"
    bad.write_text("[tempscope]\nbackend = 'disc'")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path, message in [
        (bad, "backend cannot be 'disc'"),
        (binary, "it cannot be read"),
        (tmp_path / "missing.toml", "it cannot be read"),
        (tmp_path, "it cannot be read"),
    ]:
        with pytest.raises(ConfigurationError, match=message) as caught:
            Settings.from_toml(path)
        assert str(caught.value).startswith(f"in {str(path)!r}: ")
        assert caught.value.path == str(path)
        assert caught.value.__cause__ is not None
