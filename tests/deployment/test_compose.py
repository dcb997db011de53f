"""docker-compose.yml and what it refers to, as they are written."""

import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator

from biosegment.settings import Settings
from biosegment.stack import Stack
from biosegment.supervisor import (
    ALLOW_LOCAL_BACKEND,
    EFFICIENT_IMPORT,
    OFFLINE,
    environment_of,
)

ROOT = Path(__file__).parents[2]
STATE = {
    "postgres": "/var/lib/postgresql/data",
    "redis": "/data",
    "label-studio": "/label-studio",
    "backend": "/data",
    "worker": "/data",
    "worker-gpu": "/data",
    "proxy": "/data",
}


@pytest.fixture
def services(compose):
    return compose["services"]


def lasting(services):
    """Return the services that stay."""
    return {name: each for name, each in services.items() if name != "secrets"}


def test_every_process_can_do_no_more_than_it_must(services):
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "/tmp" in service["tmpfs"], name
        assert not service.get("privileged"), name
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else []), name


def test_only_the_proxy_is_published(services):
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]


def test_databases_can_be_reached_by_those_who_need_them_and_reach_nobody(compose, services):
    members = {
        network: {name for name, each in services.items() if network in each.get("networks", {})}
        for network in compose["networks"]
    }
    assert members["database"] == {"postgres", "label-studio"}
    assert members["queue"] == {"redis", "backend", "worker", "worker-gpu"}
    assert "proxy" in members["web"]
    internal = {name for name, each in compose["networks"].items() if (each or {}).get("internal")}
    assert internal == {"database", "queue", "compute"}


def test_every_process_is_watched_and_waits_for_the_check_of_secrets(services):
    def waits_for(name):
        needed = services[name].get("depends_on", {})
        assert all(
            each["condition"]
            == ("service_healthy" if other != "secrets" else "service_completed_successfully")
            for other, each in needed.items()
        )
        return set(needed).union(*map(waits_for, needed))

    for name, service in lasting(services).items():
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert service["restart"] == "unless-stopped", name
        assert "secrets" in waits_for(name), name


def test_all_state_lies_in_volumes(compose, services):
    for name, place in STATE.items():
        source, mode = services[name]["volumes"][place]
        assert source in compose["volumes"], name
        assert mode == "rw", name
    assert services["label-studio"]["volumes"]["/data"] == ("data", "ro")
    shared = {services[name]["volumes"]["/data"][0] for name in ("backend", "worker", "worker-gpu")}
    assert shared == {"data"}


def test_images_are_pinned_and_label_studio_is_that_of_the_lock(services):
    locked = dict(
        line.split("==")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    )
    for name, service in services.items():
        _, _, tag = service["image"].partition(":")
        ours = service["image"].startswith("biosegment-")
        assert re.match(r"cpu$|cuda$|\d+\.\d+\.\d+$" if ours else r"\d+\.\d+", tag), name
    assert services["label-studio"]["image"].endswith(f":{locked['label-studio']}")
    assert version("label-studio") == locked["label-studio"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=3\.11\.\d+-slim-\w+$", dockerfile, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {
        "python:${PYTHON}",
        "build",
        "runtime",
    }
    assert dockerfile.count("pip install -c requirements.lock") == 2


def test_targets_of_the_images_exist_and_run_as_nobody_special(services):
    dockerfile = (ROOT / "Dockerfile").read_text()
    built = [service["build"] for service in services.values() if "build" in service]
    assert {each["target"] for each in built} == {"label-studio", "backend"}
    for target in ("label-studio", "backend"):
        assert f"\nFROM runtime AS {target}\n" in dockerfile
    assert "\nUSER 10001:10001\n" in dockerfile
    assert dockerfile.count("\nHEALTHCHECK") == 2
    index = services["worker-gpu"]["build"]["args"]["TORCH_INDEX"]
    assert index in dockerfile
    assert services["worker-gpu"]["image"] != services["worker"]["image"]


def test_what_the_image_is_built_from_exists():
    kept = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    ]
    assert {"pyproject.toml", "requirements.lock", "biosegment", "ml_backend"} <= set(kept)
    assert all((ROOT / name).exists() for name in kept)


def test_our_processes_are_told_what_settings_know(services):
    known = Settings().environment()
    for name in ("backend", "worker", "worker-gpu"):
        environment = {key: value or "" for key, value in services[name]["environment"].items()}
        # Label Studio sees the folder of tiles in the same place.
        assert set(known) - set(environment) == {"BIOSEGMENT_LABEL_STUDIO_TILES"}, name
        extra = {"REDIS_PASSWORD", "OMP_WAIT_POLICY", "FORWARDED_ALLOW_IPS"}
        assert set(environment) - set(known) <= extra, name
        settings = Settings.from_env(environment)
        assert settings.basic_auth_pass
        assert settings.redis_url == f"redis://:{environment['REDIS_PASSWORD']}@redis:6379/0"
        served = services["label-studio"]["environment"]["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"]
        assert str(settings.label_studio_tiles) == served
        assert (
            settings.label_studio_api_key
            == (services["label-studio"]["environment"]["LABEL_STUDIO_USER_TOKEN"])
        )


def test_label_studio_is_set_as_by_biosegment_up(services, tmp_path):
    local = Stack(Settings(data_root=tmp_path), "password", 8080, 9090, tmp_path)
    embedded = set(environment_of(local)) - set(local.settings.environment())
    environment = services["label-studio"]["environment"]
    # These are set for all processes, in their images.
    assert embedded - set(environment) == {"OMP_WAIT_POLICY", "PYTHONUNBUFFERED"}
    for name, value in (OFFLINE | ALLOW_LOCAL_BACKEND | EFFICIENT_IMPORT).items():
        assert (environment[name] or "") == value
    assert environment["DJANGO_SETTINGS_MODULE"] == environment_of(local)["DJANGO_SETTINGS_MODULE"]
    assert "--enable-legacy-api-token" in " ".join(services["label-studio"]["command"])


def test_label_studio_takes_the_address_of_the_backend(services):
    """Its webhooks refuse a host name without a dot, and nothing would ever be trained."""
    if not django_settings.configured:
        django_settings.configure(USE_I18N=False)
    address = services["backend"]["environment"]["BIOSEGMENT_BACKEND_URL"]
    URLValidator()(f"{address}/webhook")
    with pytest.raises(ValidationError):
        URLValidator()("http://backend:9090/webhook")
    host = address.removeprefix("http://").partition(":")[0]
    assert services["backend"]["networks"]["web"]["aliases"] == [host]
    assert f"reverse_proxy {host}:9090" in (ROOT / "deploy" / "Caddyfile").read_text()


def test_no_secret_is_on_a_command_line(services):
    for service in services.values():
        environment = service.get("environment", {})
        values = [v for k, v in environment.items() if re.search("PASS|TOKEN|KEY", k) and v]
        words = " ".join(
            [*service.get("command", []), *service.get("healthcheck", {}).get("test", [])]
        )
        assert not [value for value in values if value in words]


@pytest.mark.parametrize("tls", ["internal", "it@example.org"])
def test_the_proxy_understands_its_settings(tls):
    done = subprocess.run(
        ["caddy", "validate", "--config", str(ROOT / "deploy" / "Caddyfile")],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "SITE": "localhost", "SITE_TLS": tls},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
