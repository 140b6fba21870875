"""Apache Superset as a server of its own, spoken to as its own pages do."""

import json
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME = "tester"


@dataclass
class Superset:
    """A running Superset; `token` is that of its administrator."""

    port: int
    token: str | None = None
    words: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the answer to a request to the API."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers=headers if body is None else headers | {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")

    def get(self, path: str) -> Any:
        """The answer to a question that is to be answered."""
        status, answer = self.ask("GET", path)
        assert status == 200, answer
        return answer

    def post(self, path: str, body: Any) -> Any:
        """The answer to something that is to be done."""
        status, answer = self.ask("POST", path, body)
        assert status in (200, 201), answer
        return answer


@contextmanager
def serving(packages: Path, folder: Path) -> Iterator[Superset]:
    """A Superset of the environment in `packages`, which keeps all it has in `folder`, until the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        superset = Superset(probe.getsockname()[1])
    environment = os.environ | {
        "SUPERSET_SECRET_KEY": secrets.token_urlsafe(48),
        "SUPERSET_HOME": str(folder),
        "SUPERSET_CONFIG_PATH": str(Path(__file__).with_name("superset_config.py")),
        "FLASK_APP": "superset",
    }
    command = str(packages / "bin" / "superset")
    person = ["--username", NAME, "--password", superset.words, "--firstname", "a", "--lastname", "b"]
    with (folder / "superset.log").open("w") as log:
        for step in (
            ["db", "upgrade"],
            ["fab", "create-admin", *person, "--email", "tester@example.org"],
            ["init"],
        ):
            subprocess.run([command, *step], env=environment, stdout=log, stderr=log, check=True)
        server = subprocess.Popen(
            [command, "run", "-h", "127.0.0.1", "-p", str(superset.port)], env=environment, stdout=log, stderr=log
        )
        try:
            _log_in(superset, server)
            yield superset
        finally:
            server.terminate()
            server.wait(timeout=60)


def _log_in(superset: Superset, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 300
    person = {"username": NAME, "password": superset.words, "provider": "db", "refresh": False}
    while superset.token is None:
        try:
            superset.token = superset.post("/security/login", person)["access_token"]
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, "Superset did not start"
            time.sleep(1)
