"""A tiny OpenAI-compatible server on loopback that answers as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def said(text: str | None, *, finish: str | None = "stop", usage: Any = (11, 7), **message: Any) -> dict:
    """A chat completion as servers send it."""
    logprobs = message.pop("logprobs", None)
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": text} | message,
                "logprobs": logprobs,
            }
        ],
    }
    if usage is not None:
        body["usage"] = dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True)) | {
            "total_tokens": sum(usage)
        }
    return body


class Server:
    """Answers with what ``answer(request body, how often asked before)`` returns.

    That is a body (dict: JSON, str: as it is), or (status, body, headers). ``requests`` are the bodies it was
    sent, ``keys`` the Authorization headers, ``busiest`` the most requests it had at a time.
    """

    def __init__(self, answer: Callable[[dict, int], Any]) -> None:
        self.requests: list[dict] = []
        self.keys: list[str] = []
        self.busiest = 0
        self._now = 0
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    before = len(outer.requests)
                    outer.requests.append(body)
                    outer.keys.append(self.headers.get("Authorization", ""))
                    outer._now += 1
                    outer.busiest = max(outer.busiest, outer._now)
                status, headers = 200, {}
                if self.path != "/v1/chat/completions":
                    status, reply = 404, {"error": {"message": f"no {self.path}"}}
                else:
                    reply = answer(body, before)
                    if isinstance(reply, tuple):
                        status, reply, headers = reply
                with lock:
                    outer._now -= 1
                content = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
                try:
                    self.send_response(status)
                    for name, value in ({"Content-Type": "application/json"} | headers).items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    pass  # the client has gone, as in the test of time limits

            def log_message(self, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


def slowly(seconds: float, body: Any) -> Any:
    time.sleep(seconds)
    return body
