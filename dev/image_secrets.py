"""What a build must know of this machine to reach its package index, as build secrets: no layer keeps them."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

# The settings of pip that say where packages come from; all else is the Dockerfile's.
SETTINGS: Final = ("index-url", "extra-index-url", "trusted-host", "proxy", "retries", "timeout", "default-timeout")
# Where the certificates are that this machine trusts: named by a variable, or where Linux distributions keep them.
CA_VARIABLES: Final = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
CA_FILES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def write_secrets(folder: Path) -> dict[str, Path]:
    """The build secrets of operator/Dockerfile by their id, as files in `folder`, which is the caller's to remove."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    settings = folder / "pip.conf"
    settings.write_text(pip_settings(listed.stdout.splitlines()))
    certificates = folder / "ca.pem"
    trusted = bundle(os.environ)
    certificates.write_bytes(trusted.read_bytes() if trusted else b"")
    return {"pip": settings, "ca": certificates}


def pip_settings(lines: Iterable[str]) -> str:
    """A pip.conf made of the lines of `pip config list` that matter; the environment's win, as in pip."""
    found = dict(line.split("=", 1) for line in sorted(lines, key=lambda line: line.startswith(":env:")) if "=" in line)
    wanted = {name.rsplit(".", 1)[-1]: ast.literal_eval(value) for name, value in found.items()}
    return "\n".join(["[global]", *(f"{name} = {wanted[name]}" for name in SETTINGS if name in wanted)])


def bundle(environment: Mapping[str, str]) -> Path | None:
    """The certificates that programs on this machine trust, as one file; none where there is none."""
    named = [environment[name] for name in CA_VARIABLES if name in environment]
    return next((Path(name) for name in [*named, *CA_FILES] if Path(name).is_file()), None)
