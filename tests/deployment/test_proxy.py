"""The reverse proxy of ``docs/deploy.md``, in front of a real SuperLink and a SuperNode with a registered key."""

from __future__ import annotations

import re
import shlex
import shutil
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.deployment.flower import START_TIMEOUT, daemon, free_ports
from tests.deployment.recipe import FENCE, ROOT
from tests.deployment.test_federation import federation, wait_until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
AROUND = """
daemon off;
pid {home}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    {server}
}}
"""


def page_configuration() -> str:
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    (server,) = (code for language, code in FENCE.findall(page) if language == "nginx")
    return server


def status(port: int, path: str, home: Path) -> int:
    trusted = ssl.create_default_context(cafile=str(home / "certificates" / "ca.crt"))
    try:
        return urllib.request.urlopen(f"https://127.0.0.1:{port}{path}", context=trusted, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nodes_come_through_the_proxy_and_nothing_else_does(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with federation("Several organisations: TLS, and nodes that you know", tmp_path) as nodes:
        for step in ("mkdir", "openssl req -x509", "openssl req -newkey", "openssl x509", "ssh-keygen"):
            nodes.recipe.run(step)
        nodes.start_superlink()
        nodes.recipe.run("flwr supernode register")
        behind = re.search(r"--port (\d+)", nodes.recipe.command("flower-superlink"))[1]
        server = page_configuration().replace("listen 443", f"listen 127.0.0.1:{port}")
        server = server.replace("/home/you/federation", str(tmp_path)).replace("127.0.0.1:8000", f"127.0.0.1:{behind}")
        (tmp_path / "nginx.conf").write_text(AROUND.format(home=tmp_path, server=server))
        command = shlex.split(nodes.recipe.command("flower-supernode", "partition-id=0"))
        command[command.index("--superlink") + 1] = f"127.0.0.1:{port}"
        with (
            daemon([NGINX, "-c", str(tmp_path / "nginx.conf")], tmp_path, "nginx", port),
            daemon(command, tmp_path, "supernode-0"),
        ):
            wait_until(lambda: "SuperNode ID: " in nodes.log(0), "the activation", tmp_path, START_TIMEOUT)
            assert "online" in nodes.recipe.run("flwr supernode list")
            assert status(port, "/v1/control/list-nodes", tmp_path) == 403
            assert status(port, "/v1/runtime/pull-messages", tmp_path) == 403
            # The SuperLink itself answers there: it wants a signed request.
            assert status(port, "/v1/fleet/pull-messages", tmp_path) in (401, 405)
