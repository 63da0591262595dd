"""A Hugging Face hub on loopback, as far as loading a model goes: repository facts, and files by commit."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves ``repositories``: hub id -> folder, all at one commit.

    ``requests`` are the lines it was asked with.
    """

    def __init__(self, **repositories: Path) -> None:
        self.requests: list[str] = []
        outer, folders = self, {name.replace("__", "/"): path for name, path in repositories.items()}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append(f"{self.command} {self.path}")
                parts = self.path.partition("?")[0].strip("/").split("/")
                api = parts[:2] == ["api", "models"]
                name = "/".join(parts[2:4] if api else parts[:2])
                folder = folders.get(name)
                if name == "org/broken":
                    self._answer(500, b"{}", {})
                elif folder is None:
                    self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
                elif api and parts[4:] in ([], ["revision", "main"], ["revision", COMMIT]):
                    files = [{"rfilename": p.name} for p in sorted(folder.iterdir())]
                    facts = {"id": name, "sha": COMMIT, "siblings": files}
                    self._answer(200, json.dumps(facts).encode(), {"Content-Type": "application/json"})
                elif api and parts[4] == "revision":
                    self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                elif not api and (folder / parts[-1]).is_file():
                    content = (folder / parts[-1]).read_bytes()
                    etag = hashlib.sha256(content).hexdigest()
                    self._answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
                else:
                    self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

            do_HEAD = do_GET

            def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for header, value in (headers | {"Content-Length": str(len(content))}).items():
                    self.send_header(header, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)
