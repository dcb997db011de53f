from pathlib import Path

import pytest
from redis import Redis

from biosegment.errors import SettingsError
from biosegment.settings import SECRETS as SECRET_NAMES
from biosegment.settings import LoopOptions, Settings

SECRETS = {
    "LABEL_STUDIO_API_KEY": "token-that-nobody-sees",
    "BASIC_AUTH_USER": "backend",
    "BASIC_AUTH_PASS": "password-that-nobody-sees",
    "REDIS_URL": "redis://:redis-password-that-nobody-sees@redis:6379/1",
}


def test_nothing_needs_to_be_set():
    settings = Settings.from_env({})
    assert settings.data_root == Path("data").absolute()
    assert settings.label_studio_tiles == settings.data_root / "tiles"
    assert settings.label_studio_url == "http://localhost:8080"
    assert settings.backend_url == "http://localhost:9090"
    assert settings.loop == LoopOptions("spaced_entropy", 10)


def test_an_empty_variable_keeps_its_default():
    names = ["LABEL_STUDIO_URL", "BIOSEGMENT_DATA", "BIOSEGMENT_RETRAIN_EVERY", "REDIS_URL"]
    assert Settings.from_env(dict.fromkeys(names, "")) == Settings.from_env({})


def test_another_process_gets_the_same_settings(tmp_path):
    environ = SECRETS | {
        "BIOSEGMENT_DATA": str(tmp_path / "data"),
        "BIOSEGMENT_LABEL_STUDIO_TILES": "/label-studio/tiles",
        "LABEL_STUDIO_URL": "http://label-studio:8080/",
        "LABEL_STUDIO_PUBLIC_URL": "https://label.example/",
        "BIOSEGMENT_BACKEND_URL": "http://backend:9090/",
        "BIOSEGMENT_STRATEGY": "random",
        "BIOSEGMENT_RETRAIN_EVERY": "25",
        "BIOSEGMENT_TRAINING_EFFORT": "0.5",
        "BIOSEGMENT_MODEL_STORAGE": "s3://bucket/models",
        "BIOSEGMENT_LOG_LEVEL": "debug",
    }
    settings = Settings.from_env(environ)
    assert settings.label_studio_url == "http://label-studio:8080"
    assert settings.label_studio_page == "https://label.example"
    assert settings.backend_url == "http://backend:9090"
    assert settings.label_studio_tiles == Path("/label-studio/tiles")
    assert settings.loop == LoopOptions("random", 25, 0.5)
    assert settings.log_level == "DEBUG"
    assert Settings.from_env(settings.environment()) == settings


def test_people_find_label_studio_where_biosegment_does_unless_told():
    settings = Settings.from_env({"LABEL_STUDIO_URL": "https://label.example/"})
    assert settings.label_studio_page == "https://label.example"


def test_a_token_that_was_pasted_with_its_line_end_works():
    settings = Settings.from_env({"LABEL_STUDIO_API_KEY": " abc\n"})
    assert settings.label_studio_api_key == "abc"


def test_secrets_are_not_shown():
    settings = Settings.from_env(SECRETS)
    assert settings.basic_auth_pass == "password-that-nobody-sees"
    assert "nobody-sees" not in repr(settings)
    assert "nobody-sees" not in f"{settings}"


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"LABEL_STUDIO_URL": "localhost:8080"}, "LABEL_STUDIO_URL"),
        ({"LABEL_STUDIO_URL": "ftp://localhost"}, "LABEL_STUDIO_URL"),
        ({"LABEL_STUDIO_URL": "http://"}, "LABEL_STUDIO_URL"),
        ({"LABEL_STUDIO_URL": "http://[::1"}, "LABEL_STUDIO_URL"),
        ({"LABEL_STUDIO_URL": "http://localhost:99999"}, "LABEL_STUDIO_URL"),
        ({"LABEL_STUDIO_URL": "http://localhost:web"}, "LABEL_STUDIO_URL"),
        ({"LABEL_STUDIO_PUBLIC_URL": "label.example"}, "LABEL_STUDIO_PUBLIC_URL"),
        ({"BIOSEGMENT_BACKEND_URL": "9090"}, "BIOSEGMENT_BACKEND_URL"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL"),
        ({"REDIS_URL": "http://localhost:6379"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://localhost:port"}, "REDIS_URL"),
        ({"BASIC_AUTH_USER": "backend"}, "BASIC_AUTH_USER"),
        ({"BASIC_AUTH_PASS": "secret"}, "BASIC_AUTH_USER"),
        ({"BIOSEGMENT_RETRAIN_EVERY": "0"}, "retrain_every"),
        ({"BIOSEGMENT_RETRAIN_EVERY": "-3"}, "retrain_every"),
        ({"BIOSEGMENT_RETRAIN_EVERY": "often"}, "retrain_every"),
        ({"BIOSEGMENT_RETRAIN_EVERY": "2.5"}, "retrain_every"),
        ({"BIOSEGMENT_TRAINING_EFFORT": "nan"}, "training_effort"),
        ({"BIOSEGMENT_TRAINING_EFFORT": "much"}, "training_effort"),
        ({"BIOSEGMENT_MODEL_STORAGE": "/mnt/models"}, "BIOSEGMENT_MODEL_STORAGE"),
        ({"BIOSEGMENT_MODEL_STORAGE": "file://mnt/models"}, "BIOSEGMENT_MODEL_STORAGE"),
        ({"BIOSEGMENT_MODEL_STORAGE": "s3://key:secret@bucket"}, "BIOSEGMENT_MODEL_STORAGE"),
        ({"BIOSEGMENT_LOG_LEVEL": "LOUD"}, "BIOSEGMENT_LOG_LEVEL"),
        ({"LABEL_STUDIO_API_KEY": "clé"}, "LABEL_STUDIO_API_KEY"),
        ({"LABEL_STUDIO_API_KEY": "two\nlines"}, "LABEL_STUDIO_API_KEY"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_in_one_sentence(environ, name):
    with pytest.raises(SettingsError, match=rf"^The setting {name} .*\.$"):
        Settings.from_env(environ)


def test_a_secret_that_cannot_be_used_is_not_quoted():
    for environ in (
        {"REDIS_URL": "https://:nobody-sees@redis"},
        {"LABEL_STUDIO_API_KEY": "nobody-sees\u00e9"},
    ):
        with pytest.raises(SettingsError) as caught:
            Settings.from_env(environ)
        assert "nobody-sees" not in str(caught.value)


def test_secrets_may_stand_in_files(tmp_path):
    environ = {"BASIC_AUTH_USER": "backend", "REDIS_URL": "rediss://redis:6379/1"}
    for name in ("LABEL_STUDIO_API_KEY", "BASIC_AUTH_PASS", "REDIS_PASSWORD"):
        (tmp_path / name).write_text(f"{name}/of@file\n")
        environ[f"{name}_FILE"] = str(tmp_path / name)
    settings = Settings.from_env(environ)
    assert settings.label_studio_api_key == "LABEL_STUDIO_API_KEY/of@file"
    assert settings.basic_auth_pass == "BASIC_AUTH_PASS/of@file"
    assert settings.redis_url == "rediss://:REDIS_PASSWORD%2Fof%40file@redis:6379/1"
    assert Settings.from_env(settings.environment()) == settings


@pytest.mark.parametrize("address", ["redis://redis:6379/1", "unix:///tmp/redis.sock?db=1"])
def test_the_password_of_redis_reaches_it(address):
    settings = Settings.from_env({"REDIS_URL": address, "REDIS_PASSWORD": "p/w@d:%"})
    with Redis.from_url(settings.redis_url) as connection:
        options = connection.connection_pool.connection_kwargs
    assert options["password"] == "p/w@d:%"
    assert options["db"] == 1
    assert "username" not in options


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_secret_file_that_cannot_be_used_is_named(tmp_path, name):
    for path, content in (
        (tmp_path / "no-file", None),
        (tmp_path / "empty", b"\n"),
        (tmp_path / "binary", b"\xff\xfe"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SettingsError, match=rf"^The setting {name}_FILE .*\.$"):
            Settings.from_env({f"{name}_FILE": str(path)})


def test_variables_go_before_files_so_that_settings_can_be_handed_on(tmp_path):
    own = {}
    for name in SECRET_NAMES:
        (tmp_path / name).write_text("redis://redis" if name == "REDIS_URL" else "of a file")
        own[f"{name}_FILE"] = str(tmp_path / name)
    settings = Settings.from_env(own | {"BASIC_AUTH_USER": "backend"})
    assert settings.redis_url == "redis://:of%20a%20file@redis"
    assert Settings.from_env(own | settings.environment()) == settings


def test_options_of_a_project_override_the_defaults():
    options = LoopOptions("entropy", 10)
    assert options.updated({}) == options
    assert options.updated({"strategy": None, "retrain_every": None, "theme": "dark"}) == options
    assert options.updated({"strategy": "random", "retrain_every": "4"}) == LoopOptions("random", 4)
    for value in ("soon", 0, 1.5, True, [3]):
        with pytest.raises(SettingsError, match="retrain_every"):
            options.updated({"retrain_every": value})
