"""The file of a backup, and what somebody could put into one."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.errors import StorageError
from homespun_server.backup import archive
from homespun_server.backup.contents import NAMES, is_safe, without_secrets


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "adapters" / "shop-1").mkdir(parents=True)
    (folder / "adapters" / "shop-1" / "CURRENT").write_text("v1\n")
    (folder / "homespun.db").write_bytes(random.Random(0).randbytes(100_000))
    archive.pack(folder, tmp_path / "b.tar.gz", "0006")
    return tmp_path / "b.tar.gz"


def forged(path: Path, name: str, member: tarfile.TarInfo | None = None, size: int = 1) -> Path:
    """A backup that lists `name`, and has `member` for it."""
    entry = {"size": size, "sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}  # of "x"
    summary = {"format": 1, "homespun": "9", "created": "", "revision": None, "files": {name: entry}}
    text = json.dumps(summary).encode()
    with tarfile.open(path, "w:gz") as tar:
        first = tarfile.TarInfo("backup.json")
        first.size = len(text)
        tar.addfile(first, io.BytesIO(text))
        if member is None:
            member = tarfile.TarInfo(name)
            member.size = 1
        tar.addfile(member, io.BytesIO(b"x") if member.isfile() else None)
    return path


def test_what_was_packed_is_unpacked_and_nobody_else_may_read_it(packed: Path, tmp_path: Path) -> None:
    assert packed.stat().st_mode & 0o777 == 0o600
    archive.unpack(packed, tmp_path / "out")
    assert (tmp_path / "out" / "adapters" / "shop-1" / "CURRENT").read_text() == "v1\n"
    assert (tmp_path / "out" / "homespun.db").read_bytes() == (tmp_path / "in" / "homespun.db").read_bytes()


def test_a_cut_or_a_flipped_bit_is_noticed_wherever_it_is(packed: Path, tmp_path: Path) -> None:
    whole = packed.read_bytes()
    bad, harmless = tmp_path / "bad.tar.gz", 0
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        bad.write_bytes(whole[:at])
        with pytest.raises(StorageError, match=r"bad\.tar\.gz"):
            archive.unpack(bad, None)
        bad.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        try:
            unharmed = archive.unpack(bad, None)
        except StorageError:
            continue
        assert unharmed == archive.read_summary(packed)  # gzip's own flags, or zeros spelled in another way
        harmless += 1
    assert harmless <= 5


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "adapters/../../evil", "adapters//x", "evil", "locks/x", "."]
)
def test_a_path_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="which no backup has"):
        archive.unpack(forged(tmp_path / "b.tar.gz", name), tmp_path / "out")
    assert not (tmp_path / "evil").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_anything_but_a_plain_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    member = tarfile.TarInfo("adapters/x")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(StorageError, match="doesn't belong there"):
        archive.unpack(forged(tmp_path / "b.tar.gz", "adapters/x", member, size=0), tmp_path / "out")
    assert not (tmp_path / "out" / "adapters" / "x").exists()


def test_the_forger_would_have_got_in_with_an_honest_name(tmp_path: Path) -> None:
    archive.unpack(forged(tmp_path / "b.tar.gz", "adapters/x"), tmp_path / "out")
    assert (tmp_path / "out" / "adapters" / "x").read_text() == "x"


@given(
    st.text(alphabet="./\\\0abdeprst", max_size=20)
    | st.builds("{}/{}".format, st.sampled_from(sorted(NAMES)), st.text())
)
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    folder = Path("/data")
    if is_safe(name):
        inside = (folder / name).resolve()
        assert inside.is_relative_to(folder) and inside != folder
        assert inside.relative_to(folder).parts[0] in NAMES


def test_what_is_no_backup_or_one_of_a_newer_homespun_is_one_line(packed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("hello")
    for path, said in ((other, "not a backup"), (tmp_path / "nowhere", "no such file")):
        with pytest.raises(StorageError, match=said):
            archive.read_summary(path)
    folder = tmp_path / "newer"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "FORMAT", 2)
        archive.pack(folder, tmp_path / "newer.tar.gz", None)
    with pytest.raises(StorageError, match=r"format 2 of Homespun .* this one reads 1"):
        archive.read_summary(tmp_path / "newer.tar.gz")


def test_secrets_of_the_settings_stay_out_and_the_rest_stays_as_it_is() -> None:
    toml = """
port = 9000 # ours
api_token = "hunter2"
  database_url="postgresql://u:hunter2@h/d"
[[repository]]
source = "https://me:hunter2@git.example.com/a/b.git"
[[notify]]
url = "https://chat.example.com/hunter2"
events = ["adapter"]
secret = "hunter2"
[[forge]]
url = "https://git.example.com"
token = 'hunter2'
"""
    kept = without_secrets(toml)
    assert kept is not None and "hunter2" not in kept
    assert "port = 9000 # ours" in kept and 'url = "https://git.example.com"' in kept and 'events = ["adapter"]' in kept


@pytest.mark.parametrize(
    "toml", ['"api_token" = "hunter2"\n', 'forge = [{token = "hunter2"}]\n', 'api_token = """\nhunter2\n"""\n']
)
def test_settings_whose_secrets_cannot_be_told_apart_stay_out(toml: str) -> None:
    assert without_secrets(toml) is None


def test_a_secret_that_is_commented_out_stays_out_too() -> None:
    kept = without_secrets('# api_token = "hunter2"\nport = 9000\n')
    assert kept is not None and "hunter2" not in kept and "port = 9000" in kept
