"""`HOST` and `PORT`: what can be listened on, and a sentence for everything else."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vlm4vla.errors import UserError
from vlm4vla.system import address

ROOT = Path(__file__).resolve().parents[2]


def listening() -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    return server


def free_port() -> int:
    with listening() as server:
        return int(server.getsockname()[1])


def test_without_settings_it_is_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_bind", lambda host, port: None)
    assert address.chosen({}) == ("127.0.0.1", 7860)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "::1", "[::1]", "::"])
def test_what_can_be_listened_on_is_taken(host: str) -> None:
    if ":" in host and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    port = free_port()
    assert address.chosen({"HOST": host, "PORT": f" {port} "}) == (host, port)


@pytest.mark.parametrize(
    "settings, complaint",
    [
        ({"PORT": ""}, r"PORT is empty\. Give a number from 1 to 65535"),
        ({"PORT": "http"}, "PORT is 'http', which is no port"),
        ({"PORT": "0"}, "PORT is '0', which is no port"),
        ({"PORT": "-1"}, "PORT is '-1', which is no port"),
        ({"PORT": "65536"}, "PORT is '65536', which is no port"),
        ({"PORT": "7_860"}, "PORT is '7_860', which is no port"),
        ({"PORT": "78.60"}, "PORT is '78.60', which is no port"),
        ({"PORT": "\u0667\u0668"}, "which is no port"),
        ({"PORT": "9" * 5000}, "which is no port"),
        ({"HOST": ""}, r"HOST is empty\. HOST=127.0.0.1 serves this machine alone"),
        ({"HOST": "http://127.0.0.1"}, "which is no address"),
        ({"HOST": "not a host"}, "which is no address"),
        ({"HOST": "a" * 300}, "which is no address"),
        ({"HOST": "*"}, "which is no address"),
        ({"HOST": "224.0.0.1"}, "which is no address"),
        ({"HOST": "255.255.255.255"}, "which is no address"),
        ({"HOST": "192.0.2.7"}, "HOST is '192.0.2.7', which is another machine"),
    ],
)
def test_everything_else_is_one_sentence_and_advice(
    settings: dict[str, str], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        address.chosen({"PORT": str(free_port())} | settings)
    assert caught.value.fix
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_port_that_is_named_in_place_of_a_taken_one_is_free(host: str) -> None:
    with listening() as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port} is in use") as caught:
            address.chosen({"HOST": host, "PORT": str(port)})
        [named] = re.findall(r"PORT=(\d+)", caught.value.fix)
        assert address.chosen({"HOST": host, "PORT": named}) == (host, int(named))


def test_a_port_below_1024_is_refused_to_ordinary_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_bind", lambda host, port: PermissionError(13, "Denied"))
    with pytest.raises(UserError, match="Port 80 is not for ordinary users"):
        address.chosen({"PORT": "80"})


@pytest.mark.parametrize("setting", ["taken", ""])
def test_the_app_says_it_and_starts_nothing(setting: str, tmp_path: Path) -> None:
    with listening() as server:
        port = str(server.getsockname()[1]) if setting == "taken" else setting
        done = subprocess.run(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env={**os.environ, "PORT": port, "VLM4VLA_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=180,
        )
    assert done.returncode == 2
    assert re.fullmatch(r"app\.py: (Port \d+ is in use.*|PORT is empty.*)\n", done.stderr)
    assert done.stdout == ""
