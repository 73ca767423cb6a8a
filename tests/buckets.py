"""A real S3 server on loopback, one for all tests of a process: moto's, behind a door that can fail, wait and count."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from fsspec.config import conf
from werkzeug.serving import WSGIRequestHandler, make_server

TIMEOUT = 1.0
ONLOOKER = "onlooker"
Answer = Iterable[bytes]
FAILS = b"<?xml version='1.0'?><Error><Code>ServiceUnavailable</Code><Message>injected by a test</Message></Error>"


class Quiet(WSGIRequestHandler):
    """Requests are counted, not printed."""

    def log(self, type: str, message: str, *values: Any) -> None:
        pass


class Door:
    """What stands before the server. As it is, everything passes."""

    def __init__(self, application: Any):
        self._application, self._draws = application, random.Random(0)
        self.errors = 0.0
        """The share of requests that are answered by 503."""
        self.cut = 0.0
        """The share of answers that end in the middle."""
        self.seconds = 0.0
        """That every request takes."""
        self.asked = Counter[str]()
        """Requests by method."""
        self.closed: Callable[[str, str], bool] = lambda method, path: False
        """Which requests, by method and path, are answered by 503."""
        self.silent: Callable[[str, str], bool] = lambda method, path: False
        """Which requests, by method and path, are never answered: the client gives up after TIMEOUT seconds."""
        self.lost: Callable[[str, str], bool] = lambda method, path: False
        """Which requests are done, and the answer gets lost."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Answer:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked[method] += 1
        if ONLOOKER in environ.get("HTTP_USER_AGENT", ""):
            return self._application(environ, start_response)  # type: ignore[no-any-return]
        time.sleep(self.seconds)
        if self.closed(method, path) or self._draws.random() < self.errors:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Service Unavailable", [("Content-Type", "application/xml")])
            return [FAILS]
        if self.silent(method, path):
            raise ConnectionAbortedError("the connection stays open")
        answer: Answer = self._application(environ, start_response)
        if self.lost(method, path):
            raise ConnectionAbortedError("the connection stays open")
        if method == "GET" and self._draws.random() < self.cut:
            whole = b"".join(answer)
            return [whole[: len(whole) // 2]]
        return answer


class Server:
    """It runs in a thread until the process ends."""

    _only: "Server | None" = None

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self.door = Door(DomainDispatcherApplication(create_backend_app))
        server = make_server("127.0.0.1", 0, self.door, threaded=True, request_handler=Quiet)
        threading.Thread(target=server.serve_forever, name="S3", daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        self._buckets = 0

    @classmethod
    def only(cls) -> "Server":
        cls._only = cls._only or cls()
        return cls._only

    def settings(self) -> dict[str, str]:
        """The environment in which S3 is this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",  # what is tried again is tried by stillroom
        }

    def bucket(self) -> "Bucket":
        """A new one, empty."""
        self._buckets += 1
        return Bucket(self, f"bucket-{self._buckets}")


class Bucket:
    """Its content by another client than stillroom's, which the door leaves in peace."""

    def __init__(self, server: Server, name: str):
        import boto3
        from botocore.config import Config

        self.server, self.door, self.name, self.url = server, server.door, name, f"s3://{name}"
        self._client = boto3.client("s3", endpoint_url=server.url, region_name="us-east-1",
                                    aws_access_key_id="test", aws_secret_access_key="test",
                                    config=Config(user_agent_extra=ONLOOKER))  # fmt: skip
        self._client.create_bucket(Bucket=name)

    def put(self, key: str, content: bytes) -> None:
        self._client.put_object(Bucket=self.name, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        return bytes(self._client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=key)

    def keys(self, below: str = "") -> list[str]:
        return sorted(self.sums(below))

    def sums(self, below: str = "") -> dict[str, str]:
        """The MD5 of every object, which a listing tells."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=below)
        return {found["Key"]: found["ETag"].strip('"') for page in pages for found in page.get("Contents", [])}

    def upload(self, folder: Path, below: str) -> str:
        """Put every file of a folder; its URL."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{below}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"{self.url}/{below}"

    @contextmanager
    def trouble(self, **settings: Any) -> Iterator[Door]:
        """What goes wrong inside, as `Door` has it."""
        before = {name: getattr(self.door, name) for name in settings}
        for name, value in settings.items():
            setattr(self.door, name, value)
        try:
            yield self.door
        finally:
            for name, value in before.items():
                setattr(self.door, name, value)


@cache
def _session() -> Any:
    """Of all clients of this process: each would read for itself what S3 is, a quarter of a second long."""
    from aiobotocore.session import AioSession

    return AioSession()


def bytes_below(folder: Path) -> dict[str, bytes]:
    """The files of a cache but its log, by their paths."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "extraction.jsonl"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def published(bucket: Bucket, below: str = "cache/") -> dict[str, bytes]:
    """The same, of a cache in a bucket."""
    keys = [key for key in bucket.keys(below) if not key.endswith("extraction.jsonl")]
    return {key.removeprefix(below): bucket.get(key) for key in keys}


def made_known(patch: Any, home: Path) -> None:
    """Let S3 be the server of this process, and copies lie in `home`, as long as `patch` lasts."""
    for name, value in Server.only().settings().items():
        patch.setenv(name, value)
    patch.setenv("STILLROOM_CACHE", str(home))
    patch.setattr("schemas.storage.objects.FIRST_PAUSE", 0.01)
    patch.setattr("schemas.storage.written_objects.ANSWER_SECONDS", 5 * TIMEOUT)
    patch.setattr("schemas.storage.objects._opened", {})  # by a test of another S3, which this one is not
    patch.setitem(conf, "s3", {"config_kwargs": {"read_timeout": TIMEOUT}, "session": _session()})
