"""How near verdicts by a language model come to the rate the server allows: 200 questions, 50 ms each, on loopback.

.venv/bin/python benchmarks/judging.py
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import time
from multiprocessing.connection import Connection

os.environ.setdefault("TQDM_DISABLE", "1")

from measure import keep, options, spread

from rtt.config import Endpoint, Judge
from rtt.judging.cases import Case
from rtt.judging.endpoint import EndpointClient
from rtt.judging.llm import LLMJudge
from rtt.rubrics import JUDGED, Rubric

DELAY = 0.05
"""Seconds the server takes for an answer."""


def serve(told: Connection) -> None:
    """A server that answers everything after `DELAY`; it does nothing else, so that the client is what is measured."""
    message = {"role": "assistant", "content": '{"verdict": "yes"}'}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps(
        {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    ).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:  # the client has gone
                writer.close()
                return
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            await asyncio.sleep(DELAY)
            writer.write(answer)
            await writer.drain()

    async def run() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=512)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(there,), daemon=True)
    server.start()
    port = here.recv()
    rubric = Rubric(rubric_id="a/0", kind=JUDGED, text="The tone stays friendly.")
    shares: dict[int, list[float]] = {}
    judges: dict[int, LLMJudge] = {}
    for concurrency in (4, 8, 16, 32, 200):
        endpoint = Endpoint(base_url=f"http://127.0.0.1:{port}/v1", model="m", concurrency=concurrency)
        judges[concurrency] = LLMJudge(EndpointClient(endpoint), "m", Judge(endpoint=endpoint))
    for turn in range(asked.turns + 1):
        for concurrency, judge in judges.items():
            cases = [Case(rubric, f"response {turn} {n} " + "word " * 200, "p") for n in range(asked.questions)]
            started = time.perf_counter()
            verdicts = judge.judge(cases)
            seconds = time.perf_counter() - started
            assert all(verdict.value == 1 for verdict in verdicts)
            ideal = DELAY * -(-asked.questions // concurrency)
            if turn:  # the first turn imports
                shares.setdefault(concurrency, []).append(ideal / seconds)
    result = {
        "questions": asked.questions,
        "delay_seconds": DELAY,
        "share of the ideal rate": {str(concurrency): spread(found) for concurrency, found in shares.items()},
    }
    keep(result, asked.output)
    server.terminate()


if __name__ == "__main__":
    main()
