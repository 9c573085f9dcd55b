import pytest

from homespun_core.secret_files import may_hold_secrets


@pytest.mark.parametrize(
    "name", [".env", ".env.production", "server.pem", "id_rsa", "credentials", "secrets.yml", "A.KEY"]
)
def test_names_that_say_so(name: str) -> None:
    assert may_hold_secrets(name)


@pytest.mark.parametrize("name", ["environment.py", "key.py", "id_rsa.py", "secrets.py", "pem", "credentials.py"])
def test_names_that_do_not(name: str) -> None:
    assert not may_hold_secrets(name)
