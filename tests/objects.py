"""Object storage as S3 speaks it, over HTTP: moto in a thread, and a proxy before it that counts, cuts and tampers."""

from __future__ import annotations

import re
import socket
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

BUCKET = "cqar"
KEY, SECRET = "AKIAEXAMPLE", "a/very+secret"  # of an account that moto does not ask for


class ObjectServer:
    """A storage with one bucket."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)

    def start(self) -> None:
        """Begin, empty."""
        self._moto.start()
        self.address = "{}:{}".format(*self._moto.get_host_and_port())
        self.client.create_bucket(Bucket=BUCKET)

    def stop(self) -> None:
        """End, and forget all objects: what is kept is this process's, not the server's."""
        self.post("reset")
        self._moto.stop()

    def post(self, what: str, data: bytes = b"") -> None:
        """Tell the server itself something, such as from which request on it shall check keys."""
        request = urllib.request.Request(
            f"http://{self.address}/moto-api/{what}", data=data, headers={"Content-Type": "text/plain"}, method="POST"
        )
        urllib.request.urlopen(request, timeout=10).close()

    @property
    def client(self) -> Any:
        """Another library's client, to look at the keys and to spoil them."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=f"http://{self.address}",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def uri(self, prefix: str = "snapshots", *, bucket: str = BUCKET, address: str = "", more: str = "") -> str:
        """Give the URI of a place in it."""
        return (
            f"s3://{bucket}/{prefix}?endpoint_override={address or self.address}&scheme=http&access_key={KEY}"
            f"&secret_key={SECRET.replace('/', '%2F').replace('+', '%2B')}{more}"
        )

    def keys(self, prefix: str = "") -> dict[str, int]:
        """Give all objects with their sizes, but for the empty ones that stand for folders."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        found = [each for page in pages for each in page.get("Contents", [])]
        return {each["Key"]: each["Size"] for each in found if not each["Key"].endswith("/")}

    def get(self, key: str) -> bytes:
        """Read an object."""
        data: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return data

    def put(self, key: str, data: bytes) -> None:
        """Write an object, or overwrite it."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)


class Proxy:
    """Stands before a storage: counts the bytes of files that were asked for, and after so many cuts all or says no more."""

    def __init__(self, target: str) -> None:
        self._server = target
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.ranges: list[tuple[str, int, int]] = []  # of each GET of a file: its name, first and last byte
        self.left: int | None = None  # bytes of answers until it is enough; None for never
        self.enough = threading.Event()
        self.silent = False  # then, rather than cut
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def asked(self) -> int:
        """Bytes of files that were asked for."""
        return sum(last - first + 1 for _, first, last in self.ranges)

    def before(self, uri: str) -> str:
        """Give the URI of the same place by way of this."""
        return uri.replace(self._server, self.address)

    def close(self) -> None:
        """End all connections, and take no more."""
        self._closed.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError), ThreadPoolExecutor(64) as pool:
            while not self._closed.is_set():
                client, _ = self._listening.accept()
                pool.submit(self._serve, client, pool)

    def _serve(self, client: socket.socket, pool: ThreadPoolExecutor) -> None:
        with client, socket.create_connection(self._target) as server:
            ahead = pool.submit(self._pass, client, server, self._request)
            self._pass(server, client, self._answer)
            ahead.result()

    def _pass(self, source: socket.socket, target: socket.socket, look: Callable[[bytes], bytes]) -> None:
        source.settimeout(0.1)
        with suppress(OSError):
            while not self._closed.is_set():
                with suppress(TimeoutError):
                    data = source.recv(1 << 16)
                    passed = look(data)
                    target.sendall(passed)
                    if not data or len(passed) < len(data):
                        break
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _request(self, data: bytes) -> bytes:
        if data.startswith(b"GET ") and (found := re.search(rb"\r\nrange: bytes=(\d+)-(\d+)", data, re.IGNORECASE)):
            name = data.split(b" ", 2)[1].split(b"?")[0].rpartition(b"/")[2].decode()
            if name.endswith(".parquet"):
                self.ranges.append((name, int(found[1]), int(found[2])))
        return data

    def _answer(self, data: bytes) -> bytes:
        with self._lock:
            if self.left is None:
                return data
            passed, self.left = data[: self.left], max(0, self.left - len(data))
        if len(passed) < len(data):
            self.enough.set()
            if self.silent:
                self._closed.wait(60)
        return passed
