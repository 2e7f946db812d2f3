"""The image itself: small, not root, nothing to install with; our shortcut gives what the Dockerfile gives."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev import cache, image, image_archive
from dev.image_archive import Image
from dev.image_secrets import write_secrets

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the image is for Linux"),
    pytest.mark.skipif(os.geteuid() != 0, reason="laying out and entering a root folder needs root"),
    pytest.mark.timeout(900),
]
COMPRESSED_LIMIT_BYTES = 60_000_000
NOBODY = "65532:65532"
# Enter a root folder as a container with a read-only root would: what cannot be written there must not be needed.
ENTER = """
mount --bind "$0" "$0"
mount -o remount,bind,ro "$0"
mount -t proc proc "$0/proc"
exec chroot --userspec="$1" "$0" "${@:2}"
"""
# Modules that the three entry points load by themselves, and what they load only by need.
MODULES = (
    "bounceback.agent.__main__",
    "bounceback.controller.main",
    "bounceback.cli.main",
    "bounceback.controller.object_storage",
    "kopf, pykube, cel, prometheus_client",
    "kubernetes.aio.client as client; client.CoreV1Api, client.CustomObjectsApi, client.V1Pod",
    "zoneinfo; zoneinfo.ZoneInfo('Europe/Berlin')",
    "ctypes; ctypes.CDLL('libnftables.so.1')",
    "ssl; assert ssl.create_default_context().get_ca_certs()",
)


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The sources as they are now, whoever edits them while the tests run."""
    copy = tmp_path_factory.mktemp("project") / "now"
    image.snapshot(copy)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(image, "PROJECT", copy)
        yield


@pytest.fixture(scope="module")
def archive(project: None) -> Path:
    return image.build()


@pytest.fixture(scope="module")
def built(archive: Path) -> Image:
    return image_archive.read(archive)


@pytest.fixture(scope="module")
def root(built: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("root")
    folder.parent.chmod(0o755)
    folder.chmod(0o755)
    built.unpack(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, in place of the project, with one more line in its package."""
    copy = tmp_path / "changed"
    image.snapshot(copy)
    monkeypatch.setattr(image, "PROJECT", copy)
    package = copy / "operator/bounceback/__init__.py"
    package.write_text(f"{package.read_text()}\nCHANGED_AT = {time.time()}\n")
    return copy


def inside(root: Path, built: Image, *command: str, user: str = NOBODY) -> str:
    """What the command prints in the image; fails with all of its output."""
    environment = dict(setting.split("=", 1) for setting in built.config["config"]["Env"])
    entered = ["unshare", "--mount", "--propagation=private", "bash", "-ec", ENTER, str(root), user, *command]
    done = subprocess.run(
        entered, env=environment | {"PATH": f"{environment['PATH']}:/bin:/sbin"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_runs_without_root(built: Image) -> None:
    assert built.config["config"]["User"] == NOBODY
    assert built.config["config"]["Entrypoint"] == ["bounceback"]


def test_it_is_small(built: Image, record_property: Callable[[str, object], None]) -> None:
    record_property("compressed_bytes", built.compressed_bytes)
    print(image_archive.table(built))
    assert built.compressed_bytes < COMPRESSED_LIMIT_BYTES


@pytest.mark.parametrize("modules", MODULES)
def test_what_it_needs_can_be_imported_from_a_read_only_root(root: Path, built: Image, modules: str) -> None:
    inside(root, built, "python3", "-c", f"import {modules}")


@pytest.mark.parametrize("program", [("nft", "--version"), ("tc", "-V"), ("ip", "-V"), ("ss", "-V"), ("sh", "-c", ":")])
def test_the_programs_that_faults_use_run(root: Path, built: Image, program: tuple[str, ...]) -> None:
    inside(root, built, *program)


def test_the_console_script_is_the_cli(root: Path, built: Image) -> None:
    assert "bounceback" in inside(root, built, *built.config["config"]["Entrypoint"], "--help")


def test_byte_code_is_there_for_every_source(built: Image) -> None:
    """A read-only root cannot keep what Python would compile: each start would compile it again."""
    names = {member.name.removeprefix("./") for member, _ in built.files()}
    sources = [name for name in names if name.endswith(".py") and "/lib/python3" in f"/{name}"]
    lacking = [
        name
        for name in map(Path, sources)
        if str(name.parent / "__pycache__" / f"{name.stem}.cpython-313.pyc") not in names
    ]
    assert len(sources) > 1000
    assert not lacking


def test_nothing_can_be_installed_with_it(built: Image) -> None:
    programs = ("apt", "apt-get", "dpkg", "pip", "pip3", "perl", "bash", "curl", "wget", "gcc", "strip")
    folders = ("var/lib/apt/", "var/cache/apt/", "etc/apt/", "usr/share/man/", "usr/share/locale/", "src/")
    names = [member.name.removeprefix("./") for member, _ in built.files()]
    assert [name for name in names if name.startswith(("usr/bin/", "usr/sbin/")) and Path(name).name in programs] == []
    assert [name for name in names if name.startswith(folders) or "/dist-packages/pip" in name] == []


def test_no_program_gains_rights_by_being_run(built: Image) -> None:
    """No set-user-ID bit; file capabilities are archived as extended attributes."""
    gaining = [
        m.name for m, _ in built.files() if m.mode & 0o6000 or "SCHILY.xattr.security.capability" in m.pax_headers
    ]
    assert gaining == []


def test_only_temporary_places_can_be_written_by_anyone(built: Image) -> None:
    open_to_all = [m.name.removeprefix("./").rstrip("/") for m, _ in built.files() if m.mode & 0o002 and not m.issym()]
    assert open_to_all == ["tmp"]


def test_nothing_of_the_machine_that_built_it_is_in_it(built: Image) -> None:
    """Its configuration names no address, and no certificate that only this machine trusts came along."""
    assert "://" not in str(built.config)
    local = [file.read_text().strip() for file in Path("/usr/local/share/ca-certificates").rglob("*.crt")]
    secrets = [certificate.splitlines()[1].encode() for certificate in local]
    for member, content in built.files():
        assert not any(secret in content for secret in secrets), member.name
        assert Path(member.name).name not in ("pip.conf", "sources.list", "ca.pem", "auth.conf"), member.name


def test_scanners_can_tell_what_it_was_made_from(root: Path) -> None:
    packages = {file.name for file in (root / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6", "libssl3t64", "nftables", "iproute2", "python3.13-minimal"} <= packages
    assert [name for name in packages if not (root / "usr/share/doc" / name / "copyright").exists()] == []


def test_what_has_not_changed_is_not_built_again(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise AssertionError("it was built again")

    monkeypatch.setattr(image, "make", nobody)
    assert image.build() == archive


def test_a_change_of_our_own_package_changes_the_last_layer_only(
    built: Image, changed: Path, record_property: Callable[[str, object], None]
) -> None:
    started = time.monotonic()
    renewed = image_archive.read(image.build())
    record_property("rebuild_seconds", round(time.monotonic() - started, 1))
    print(f"rebuilt in {time.monotonic() - started:.1f} s")
    assert renewed.layers[:-1] == built.layers[:-1]
    assert renewed.layers[-1] != built.layers[-1]


@pytest.mark.slow
def test_the_plain_dockerfile_gives_the_same_and_keeps_no_secret(
    built: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A build of the whole Dockerfile from nothing but the base, told of a host that no other build knows."""
    request.addfinalizer(lambda: shutil.rmtree(tmp_path))  # half a gigabyte, which pytest would keep
    kept = cache.root() / "base"
    monkeypatch.setenv("BOUNCEBACK_CACHE", str(tmp_path / "cache"))
    if kept.is_dir():
        shutil.copytree(kept, cache.root() / "base")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "canary.invalid")
    (tmp_path / "secrets").mkdir()
    secrets = write_secrets(tmp_path / "secrets")
    assert "canary.invalid" in secrets["pip"].read_text()
    order = image.Order(image.PROJECT, "bounceback:whole", tmp_path / "image.tar", secrets, tmp_path / "log")
    call = image.buildah_call(order)
    options = ["build", "--isolation=chroot", "--layers", "--pull-never", *order.build_options()]
    order.run("all", *call, *options, "--tag=localhost/whole", ".")
    order.run("push", *call, "push", "localhost/whole", f"oci-archive:{order.out}:{order.tag}")
    whole = image_archive.read(order.out)
    assert "canary" not in str(whole.config)
    assert [member.name for member, content in whole.files() if b"canary.invalid" in content] == []
    if image.answers("docker") or image.answers("podman"):
        return  # the other archive was made by another program; there is no shortcut to compare
    assert whole.config["config"] == built.config["config"]
    assert inventory(Image(whole.config, whole.layers[-1:])) == inventory(Image(built.config, built.layers[-1:]))


def inventory(image: Image) -> dict[str, tuple[int, int, int, str, str]]:
    """All that an image's entries are but for their times."""
    return {
        member.name.removeprefix("./").rstrip("/"): (
            member.mode & 0o7777,
            member.uid,
            member.gid,
            member.linkname,
            hashlib.sha256(content).hexdigest(),
        )
        for member, content in image.files()
    }
