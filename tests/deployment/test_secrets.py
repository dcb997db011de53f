import stat

import pytest

NAMES = (
    "POSTGRES_PASSWORD",
    "REDIS_PASSWORD",
    "SECRET_KEY",
    "LABEL_STUDIO_PASSWORD",
    "LABEL_STUDIO_API_KEY",
    "BASIC_AUTH_PASS",
)


def variables(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_fresh_secrets_are_good_and_for_their_owner_only(env_file, secrets):
    known = variables(env_file)
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    assert {name: len(known[name]) for name in NAMES} == dict.fromkeys(NAMES, 40)
    assert len({known[name] for name in NAMES}) == len(NAMES)
    assert secrets("check", folder=env_file.parent, **known).returncode == 0


def test_secrets_are_never_replaced(env_file, secrets):
    before = env_file.read_text()
    done = secrets("make", "localhost", "expert@example.org", folder=env_file.parent)
    assert done.returncode == 1
    assert "There is a .env already" in done.stderr
    assert env_file.read_text() == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value",
    ["", "abc123", "changeme-changeme", "Pass_Word-Pass_Word", "labelstudio123", "123456789012"],
)
def test_a_bad_secret_is_one_sentence(env_file, secrets, name, value):
    known = variables(env_file) | {name: value}
    done = secrets("check", folder=env_file.parent, **known)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name} is ")
    assert done.stderr.count("\n") == 1
    assert not value or value not in done.stderr


@pytest.mark.parametrize("name", [*NAMES, "SITE", "SITE_TLS", "LABEL_STUDIO_USERNAME"])
def test_nothing_starts_without_a_secret(tmp_path, env_file, compose_config, name):
    lines = env_file.read_text().splitlines(keepends=True)
    (tmp_path / ".env").write_text("".join(x for x in lines if not x.startswith(f"{name}=")))
    done = compose_config(tmp_path / ".env")
    assert done.returncode != 0
    assert name in done.stderr
    assert "deploy/secrets.sh make writes a .env" in " ".join(done.stderr.split())


@pytest.mark.parametrize("arguments", [[], ["make"], ["make", "localhost"], ["show"]])
def test_a_wrong_call_is_one_sentence(tmp_path, secrets, arguments):
    done = secrets(*arguments, folder=tmp_path)
    assert done.returncode == 1
    assert "deploy/secrets.sh make label.example.org" in done.stderr
    assert list(tmp_path.iterdir()) == []
