import pytest

from homespun_core.secret_files import may_hold_secrets


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.production", ".envrc", "prod.env", ".env~", ".env.bak"),
        *("server.pem", "A.KEY", "putty.ppk", "id_rsa", "id_rsa.bak", "id_ed25519_sk"),
        *("credentials", "secrets.yml", ".pgpass", "service-account.json", "serviceAccountKey.json"),
        *("prod.tfvars", "prod.auto.tfvars.json", "terraform.tfstate", "terraform.tfstate.backup"),
    ],
)
def test_names_that_say_so(name: str) -> None:
    assert may_hold_secrets(name)


@pytest.mark.parametrize(
    "name",
    [
        *("environment.py", "key.py", "id_rsa.py", "secrets.py", "credentials.py", "service_account.py"),
        *("pem", "env", "main.py.bak", "id_rsa.pub", "tfvars.md"),
    ],
)
def test_names_that_do_not(name: str) -> None:
    assert not may_hold_secrets(name)
