# SPDX-License-Identifier: MIT
"""The container image: built by buildah, run with the rights that the DaemonSet gives it.

No container runtime is needed: the image is run in a chroot in the host's namespaces, as with
`--pid host`, by uid 0 with the capabilities of the DaemonSet and no others.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.packages.roots import base
from tracer import __version__

ROOT = Path(__file__).parents[2]
SECONDS = 900
PORT = 23436
POLICY = {"default": [{"type": "insecureAcceptAnything"}]}

# A read-only root, the kernel's file systems, and the program with few capabilities.
RUN = """\
set -e
root=$1 capabilities=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
for tree in /proc /sys /dev; do mount --rbind "$tree" "$root$tree"; done
mount -t tmpfs tmpfs "$root/tmp"
exec setpriv --bounding-set "-all,$capabilities" --inh-caps -all --no-new-privs \
	chroot "$root" "$@"
"""


class Image:
    """An image in a storage of its own; `path` is where a container of it is mounted."""

    def __init__(self, scratch: Path, package: Path) -> None:
        self._options = [
            "--root", str(scratch / "storage"), "--runroot", str(scratch / "run"),
            "--storage-driver", "vfs",
        ]  # fmt: skip
        policy = scratch / "policy.json"
        policy.write_text(json.dumps(POLICY))
        empty = self.buildah("from", "scratch")
        self.buildah("copy", "--quiet", empty, str(base("bookworm")), "/")
        self.buildah(
            "commit", "--quiet", "--signature-policy", str(policy), empty, "localhost/debian"
        )
        self.buildah("rm", empty)
        self.buildah(
            "build", "--isolation", "chroot", "--signature-policy", str(policy),
            "--build-arg", "BASE=localhost/debian", "--pull-never", "--tag", "localhost/built",
            "--volume", "/etc/ssl/certs:/etc/ssl/certs:ro",
            "--file", str(ROOT / "packaging/container/Containerfile"), str(package.parent),
        )  # fmt: skip
        self._container = self.buildah(
            "from", "--pull-never", "--signature-policy", str(policy), "localhost/built"
        )
        self.path = self.buildah("mount", self._container)

    def buildah(self, command: str, *arguments: str) -> str:
        done = subprocess.run(
            ["buildah", *self._options, command, *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout.strip()

    @property
    def settings(self) -> dict[str, object]:
        """Its entry point, command and ports."""
        found = json.loads(self.buildah("inspect", "--type", "image", "localhost/built"))
        return dict(found["OCIv1"]["config"])

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs the program of the image."""
        manifest = (ROOT / "packaging/kubernetes/daemonset.yaml").read_text()
        (daemons,) = (one for one in yaml.safe_load_all(manifest) if one["kind"] == "DaemonSet")
        (container,) = daemons["spec"]["template"]["spec"]["containers"]
        added = container["securityContext"]["capabilities"]["add"]
        # chroot(2) needs a capability that the program of the image then has as well.
        capabilities = ",".join(f"+{name.lower()}" for name in [*added, "SYS_CHROOT"])
        return [
            "unshare", "--mount", "--propagation", "private", "sh", "-c", RUN, "sh", self.path,
            capabilities, "lunatik-socket", *arguments,
        ]  # fmt: skip

    def remove(self) -> None:
        self.buildah("umount", self._container)
        self.buildah("rm", "--all")
        self.buildah("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def image(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    made = Image(tmp_path_factory.mktemp("image"), package)
    yield made
    made.remove()


def test_the_image_runs_the_tracer(image: Image) -> None:
    settings = image.settings
    assert settings["Entrypoint"] == ["lunatik-socket"]
    assert settings["Cmd"] == ["trace", "--quiet", "--metrics", "*:10435"]
    assert settings["ExposedPorts"] == {"10435/tcp": {}}


def test_the_program_of_the_image_has_the_version(image: Image) -> None:
    done = subprocess.run(
        image.command("--version"), capture_output=True, text=True, check=True, timeout=SECONDS
    )
    assert done.stdout == f"lunatik-socket {__version__}\n"


def test_the_operations_are_counted_with_the_capabilities_of_the_daemonset(image: Image) -> None:
    done = subprocess.run(
        image.command("doctor", "--selftest", "--json"),
        capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True


def test_metrics_are_served_with_the_capabilities_of_the_daemonset(image: Image) -> None:
    url = f"http://127.0.0.1:{PORT}/metrics"
    with subprocess.Popen(image.command("trace", "--quiet", "--metrics", f"*:{PORT}")) as process:
        body = subprocess.run(
            ["curl", "-sS", "--retry", "90", "--retry-delay", "1", "--retry-connrefused", url],
            capture_output=True, text=True, check=False, timeout=SECONDS,
        ).stdout  # fmt: skip
        process.terminate()
        assert process.wait(60) == 0
    assert "lunatik_socket_operation_duration_seconds_count" in body
