# SPDX-License-Identifier: MIT
"""The proxy's resolver follows /etc/hosts and /etc/resolv.conf, also when they change.

It runs in namespaces of its own, with other files in their place and name servers on port 53.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
TIMEOUT_SECONDS = 60

SCRIPT = """
import json, queue, sys
from pathlib import Path
from lunatik_socket.servers.resolver import Resolver
from tests.pure.lunatik_socket.servers.name_server import name_server

hosts, settings = Path(sys.argv[1]), Path(sys.argv[2])
resolver, done = Resolver(), queue.Queue()

def look_up(name):
    resolver.look_up(name, done.put)
    lookup = done.get(timeout=20)
    return lookup.addresses or lookup.error

found = []
one = {"w.test": ["192.0.2.1"], "short.one.test": ["192.0.2.3"]}
with name_server(one, ("127.0.0.1", 53)), name_server({"w.test": ["192.0.2.2"]}, ("127.0.0.2", 53)):
    found += [look_up("w.test"), look_up("seven.test"), look_up("short")]
    hosts.write_text("127.0.0.8 seven.test\\n")
    settings.write_text("nameserver 127.0.0.2\\n")
    found += [look_up("w.test"), look_up("seven.test")]
resolver.close()
print(json.dumps(found))
"""

IN_NAMESPACES = (
    'ip link set lo up && mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && '
    'exec "$3" -c "$4" "$1" "$2"'
)


def test_hosts_and_resolv_conf_are_read_for_each_name(tmp_path: Path) -> None:
    hosts, settings = tmp_path / "hosts", tmp_path / "resolv.conf"
    hosts.write_text("127.0.0.7 seven.test\n")
    settings.write_text("nameserver 127.0.0.1\nsearch one.test\n")
    arguments = (str(hosts), str(settings), sys.executable, SCRIPT)
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", IN_NAMESPACES, "sh", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        cwd=ROOT,
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == [
        ["192.0.2.1"],
        ["127.0.0.7"],
        ["192.0.2.3"],
        ["192.0.2.2"],
        ["127.0.0.8"],
    ]
