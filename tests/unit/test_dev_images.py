"""The image archives of the development cluster: what is packed can be read, and has the name that a pod would use."""

import json
import tarfile
from pathlib import Path

import pytest

from dev import archives
from dev.progress import DevError


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "root" / "bin").mkdir(parents=True)
    (tmp_path / "root" / "bin" / "hello").write_text("hello")
    return tmp_path / "root"


def test_a_packed_image_carries_its_name_and_command(rootfs: Path, tmp_path: Path) -> None:
    archives.pack("example/web:2", rootfs, tmp_path / "web.tar", ["/bin/hello"])
    assert archives.names(tmp_path / "web.tar") == ["example/web:2"]
    with tarfile.open(tmp_path / "web.tar") as packed:
        blobs = [packed.extractfile(one) for one in packed.getnames() if one.startswith("blobs/")]
        texts = [blob.read() for blob in blobs if blob]
    assert any(
        text.startswith(b"{") and json.loads(text).get("config", {}).get("Cmd") == ["/bin/hello"] for text in texts
    )


def test_the_same_folder_gives_the_same_image(rootfs: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        archives.pack("web:1", rootfs, tmp_path / name)
    with tarfile.open(tmp_path / "one") as one, tarfile.open(tmp_path / "two") as two:
        assert one.getnames() == two.getnames()


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DevError, match=r"notes\.txt is not an image archive"):
        archives.names(tmp_path / "notes.txt")


def test_an_archive_that_is_no_image_is_named(rootfs: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "files.tar", "w") as files:
        files.add(rootfs, "root")
    with pytest.raises(DevError, match=r"neither index\.json nor manifest\.json"):
        archives.names(tmp_path / "files.tar")


@pytest.mark.parametrize(
    ("written", "looked_up"),
    [
        ("web", "docker.io/library/web:latest"),
        ("bounceback:dev", "docker.io/library/bounceback:dev"),
        ("example/web:1", "docker.io/example/web:1"),
        ("localhost/web:1", "localhost/web:1"),
        ("bounceback.local/pause:1", "bounceback.local/pause:1"),
        ("registry:5000/web", "registry:5000/web:latest"),
    ],
)
def test_a_short_name_is_looked_up_as_every_cluster_does(written: str, looked_up: str) -> None:
    assert archives.full_name(written) == looked_up
