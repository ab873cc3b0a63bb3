"""What a shared lake stands on, on loopback: an S3 server, for as long as a test needs it.

Belongs here: starting and ending them. `s3()` is moto in a thread of this process, ready in about a
second, and child processes reach it too.
"""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest
from pyarrow import fs

BUCKET: Final = "lake"
_PATIENCE: Final = 30.0
"""Seconds that a server may take to start, or to answer."""


@dataclass(frozen=True, slots=True)
class S3:
    """An S3 server, with a bucket that holds nothing yet."""

    endpoint: str
    """`http://127.0.0.1:…`."""
    access_key: str = "tester"
    secret_key: str = "not-a-secret"
    region: str = "us-east-1"

    @property
    def warehouse(self) -> str:
        """A prefix in the bucket, as MKA1_USAGE_WAREHOUSE names it."""
        return f"s3://{BUCKET}/warehouse"

    @property
    def environment(self) -> Mapping[str, str]:
        """The usual AWS variables: all that a client needs to find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",  # else clients ask a host that is not there
        }

    def files(self) -> fs.S3FileSystem:
        """Its objects as Arrow sees them; paths begin with the bucket, without `s3://`."""
        return fs.S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            region=self.region,
            endpoint_override=self.endpoint,
            allow_bucket_creation=True,
        )

    def keys(self, under: str = "") -> list[str]:
        """The objects that there are below a prefix of the bucket, in order."""
        selector = fs.FileSelector(f"{BUCKET}/{under}", recursive=True, allow_not_found=True)
        found = self.files().get_file_info(selector)
        return sorted(one.path for one in found if one.type is fs.FileType.File)


@contextmanager
def s3() -> Iterator[S3]:
    """An S3 server in this process until the end of the block; skips without moto.

    It honours If-Match and If-None-Match. What it holds is this process's: one at a time.
    """
    pytest.importorskip("moto.server", reason="moto, of the extra `test`, is the S3 server")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        place = S3(f"http://{host}:{port}")
        reset = urllib.request.Request(f"{place.endpoint}/moto-api/reset", method="POST")
        with urllib.request.urlopen(reset, timeout=_PATIENCE):
            place.files().create_dir(BUCKET)
        yield place
    finally:
        server.stop()
