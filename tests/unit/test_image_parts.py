"""What the image tool decides: which mirror, which settings of pip, and what an archive with one more layer is."""

import io
import tarfile
from pathlib import Path

import pytest

from dev import archives, image_archive
from dev.image_base import first_mirror
from dev.image_secrets import bundle, pip_settings
from dev.progress import DevError


def test_the_mirror_is_debians_own_not_its_security_archive() -> None:
    lines = ["Docker|Docker|http://a/", "Debian|Debian-Security|http://b/", "", "Debian|Debian|http://c/debian/"]
    assert first_mirror(lines) == ["http://c/debian/"]


def test_another_distributions_mirror_is_not_taken_for_debian() -> None:
    assert first_mirror(["Ubuntu|Ubuntu|http://a/ubuntu/"]) == []


def test_pips_settings_come_from_its_files_and_the_environment_wins() -> None:
    listed = [":env:.index-url='http://b/'", "global.index-url='http://a/'", "install.timeout='9'"]
    assert pip_settings(listed) == "[global]\nindex-url = http://b/\ntimeout = 9"


def test_settings_that_name_files_of_this_machine_stay_here() -> None:
    assert pip_settings(["global.cert='/home/me/ca.pem'", "global.find-links='/opt/wheels'"]) == "[global]"


def test_the_certificates_are_those_that_pip_was_told_of(tmp_path: Path) -> None:
    named = tmp_path / "ca.pem"
    named.write_text("x")
    assert bundle({"PIP_CERT": str(named), "SSL_CERT_FILE": "/nonexistent"}) == named


@pytest.fixture
def below(tmp_path: Path) -> Path:
    """An archive with one layer; its configuration has a history, as builders write it."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "first").write_text("1")
    archives.pack("example/below:1", tmp_path / "root", tmp_path / "below.tar", ["/first"])
    return tmp_path / "below.tar"


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    with tarfile.open(tmp_path / "layer.tar", "w") as files:
        member = tarfile.TarInfo("second")
        member.size = 1
        files.addfile(member, io.BytesIO(b"2"))
    return tmp_path / "layer.tar"


def test_an_appended_layer_lies_over_the_others(below: Path, layer: Path, tmp_path: Path) -> None:
    image_archive.append(below, layer, tmp_path / "all.tar", "bounceback:dev")
    read = image_archive.read(tmp_path / "all.tar")
    assert [(m.name.removeprefix("./"), content) for m, content in read.files() if m.isfile()] == [
        ("first", b"1"),
        ("second", b"2"),
    ]
    assert read.config["config"] == image_archive.read(below).config["config"]


def test_every_document_of_an_appended_archive_names_what_is_there(below: Path, layer: Path, tmp_path: Path) -> None:
    image_archive.append(below, layer, tmp_path / "all.tar", "bounceback:dev")
    read = image_archive.read(tmp_path / "all.tar")
    assert read.config["rootfs"]["diff_ids"][-1] == image_archive.digest(layer.read_bytes())
    assert archives.names(tmp_path / "all.tar") == ["docker.io/library/bounceback:dev"]
    with tarfile.open(tmp_path / "all.tar") as members:
        blobs = {m.name: f.read() for m in members if m.name.startswith("blobs/") and (f := members.extractfile(m))}
    assert all(name == f"blobs/{image_archive.digest(data).replace(':', '/')}" for name, data in blobs.items())
    assert len(blobs) == 4  # configuration, manifest, two layers: nothing of the archive below that is not used


def test_an_archive_of_another_layout_is_refused_with_the_reason(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "old.tar", "w") as members:
        members.addfile(tarfile.TarInfo("manifest.json"))
    with pytest.raises(DevError, match=r"index\.json.*Docker 25"):
        image_archive.read(tmp_path / "old.tar")
