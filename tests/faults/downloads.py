"""Interrupted downloads: ``--fetch`` from a faulty local web server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests.faults.process import ended
from tests.faults.runs import World, differing
from tests.faults.verdict import Outcome, Row, Trial, done, first, refused, row

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def downloads(world: World) -> Iterator[Row]:
    """Every faulty server, then a correct one."""
    yield row("interrupted downloads (--fetch, a local server)", _downloads(world))


def _whole(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _cut(handler: BaseHTTPRequestHandler, body: bytes, share: float) -> None:
    """Announce the full length and hang up after a share of it."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: int(share * len(body))])


def _cut_unannounced(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Announce no length, so that the client cannot detect the cut."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])


def _cut_chunk(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"%x\r\n" % len(body) + body[: len(body) // 3])


def _other_bytes(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    _whole(handler, b"<html>Please log in to this network</html>")


def _one_bit(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    _whole(handler, body[:-3] + bytes([body[-3] ^ 1]) + body[-2:])


def _hang_up(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Send nothing."""


def _no_http(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")


def _status(handler: BaseHTTPRequestHandler, body: bytes, code: int) -> None:
    handler.send_error(code)


def _around(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


SERVERS: dict[str, Answer] = {
    "the connection is cut after the head": partial(_cut, share=0.0),
    "the connection is cut in the middle": partial(_cut, share=0.5),
    "the connection is cut before the last byte": partial(_cut, share=0.99),
    "the connection is cut, no length announced": _cut_unannounced,
    "the connection is cut within a chunk": _cut_chunk,
    "a login page comes instead": _other_bytes,
    "one bit is flipped": _one_bit,
    "the server hangs up": _hang_up,
    "the server is no web server": _no_http,
    "404": partial(_status, code=404),
    "503": partial(_status, code=503),
    "endless redirection": _around,
}


def _downloads(world: World) -> Iterator[Trial]:
    texts, cache = _texts(), world.fresh("cache")
    arguments = [
        *("run", "--dataset", "paper617", "--sampler-steps", "1", "--layers", "mid"),
        *("--random-networks", "0", "--threads", "1"),
    ]
    fetched = world.fresh("fetched-run")
    for fault, answer in SERVERS.items():
        # The other file is served correctly.
        bad, cache = world.rng.choice(list(texts)), world.fresh("cache")
        outcome = ended(
            [*arguments, "--fetch", "--out", str(fetched)],
            partial(_served, texts, cache, {bad: answer}),
        )
        left = [
            path.name
            for path in cache.rglob("*")
            if path.is_file() and path.read_bytes() not in texts.values()
        ]
        yield Trial(
            f"{fault} ({bad})",
            outcome,
            first(refused(outcome), f"{left[0]} stays" if left else None),
        )
    outcome = ended(
        [*arguments, "--fetch", "--out", str(fetched)], partial(_unreachable, texts, cache)
    )
    yield Trial(
        "no server, one file is in the cache",
        outcome,
        refused(outcome) if len(list(cache.rglob("*.csv"))) < 2 else None,
    )
    outcome = ended(
        [*arguments, "--fetch", "--out", str(fetched)], partial(_served, texts, cache, {})
    )
    local = world.fresh("local")
    local.mkdir()
    for name, text in texts.items():
        (local / name).write_bytes(text)
    local_run = world.fresh("local-run")
    alone = ended(
        [*arguments, "--prompts", str(local), "--out", str(local_run)], partial(_patched, texts)
    )
    wrong = first(done(outcome), done(alone), differing(local_run, fetched))
    yield Trial("a correct server: the scores are those of local files", Outcome(0, "", ""), wrong)


def _texts() -> dict[str, bytes]:
    """Two small files in place of the authors'."""
    from datasets.sets.paper617 import FILES
    from datasets.sets.scenes617 import DATASET

    items = DATASET.items()
    rows = {"train": items[:10], "test": items[-3:]}
    return {
        name: b"prompts,seeds,prompt_inds\n"
        + b"".join(
            f'"{item.prompt}",{item.seed},{index}\n'.encode()
            for index, item in enumerate(rows[split], 10 * (split == "test"))
        )
        for split, (name, _) in FILES.items()
    }


def _patched(texts: dict[str, bytes], server: str | None = None) -> None:
    """Set the checksums of the small files, in this process."""
    from datasets.sets import paper617

    for split, (name, _) in list(paper617.FILES.items()):
        paper617.FILES[split] = (name, hashlib.sha256(texts[name]).hexdigest())
    if server is not None:
        paper617.REPOSITORY = server


def _unreachable(texts: dict[str, bytes], cache: Path) -> None:
    os.environ["SCENEBENCH_CACHE"] = str(cache)
    _patched(texts, "http://127.0.0.1:9")


def _served(texts: dict[str, bytes], cache: Path, answers: dict[str, Answer]) -> None:
    """Serve the files in this process, some with faults."""
    from datasets.sets.paper617 import COMMIT, FILES, TRAIN_COPY

    names = {
        f"/{COMMIT}/{TRAIN_COPY}": FILES["train"][0],
        f"/{COMMIT}/{FILES['test'][0]}": FILES["test"][0],
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = names[self.path]
            answers.get(name, _whole)(self, texts[name])
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    os.environ["SCENEBENCH_CACHE"] = str(cache)
    _patched(texts, f"http://127.0.0.1:{server.server_port}")
