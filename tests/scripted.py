"""A scripted OpenAI-compatible server on loopback: real HTTP, answers as a test says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Answer:
    """What the server does with one request: an answer of the model, or something worse. A script gives its fields."""

    text: str | None = '{"verdict": "yes"}'
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    delay: float = 0.0
    drop: bool = False
    finish: str = "stop"


@dataclass
class Server:
    """The server's address, what it was asked, and the script: (body of the request, its number) to an answer."""

    url: str
    script: Callable[[dict[str, Any], int], dict[str, Any]]
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0


@pytest.fixture
def scripted_server() -> Iterator[Server]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(server.asked)
                server.asked.append(question)
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                server.times.append(time.monotonic())
                server.under_way += 1
                server.most_under_way = max(server.most_under_way, server.under_way)
                answer = Answer(**server.script(question, number))
            time.sleep(answer.delay)
            with lock:
                server.under_way -= 1
            if answer.drop:
                self.close_connection = True
                self.connection.close()
                return
            self._send(answer)

        def _send(self, answer: Answer) -> None:
            message = {"role": "assistant", "content": answer.text}
            whole = {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": "scripted",
                "choices": [{"index": 0, "message": message, "finish_reason": answer.finish}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105},
            }
            fault = {"error": {"message": "scripted fault", "type": "fault"}}
            body = answer.body
            if body is None:
                body = json.dumps(whole if answer.status == 200 else fault).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Http(ThreadingHTTPServer):
        request_queue_size = 128

    http = Http(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = Server(f"http://127.0.0.1:{http.server_address[1]}/v1", lambda question, number: {})
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    http.shutdown()
    http.server_close()
