"""Code from S3, against a small S3 of the test's own; signatures are compared with botocore's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from control_plane import function, refused, running, zipped

from lambent.clock import Clock
from lambent.control.s3_source import S3Source

CODE = zipped({"app.py": b"from = 's3'"})
OLD = zipped({"app.py": b"older"})
PATH = "/bucket/a/b%20c%2B.zip"
OBJECTS = {PATH: CODE, PATH + "?versionId=v%201": OLD, "/bucket/broken.zip": b"no zip"}
ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"


class Bucket(BaseHTTPRequestHandler):
    """Answers GETs whose signature botocore would have made."""

    def do_GET(self) -> None:
        status, body = 200, OBJECTS.get(self.path, b"")
        if not self.path.startswith("/bucket/"):
            status, body = 404, ERROR.format("NoSuchBucket", "The specified bucket does not exist").encode()
        elif not body:
            status, body = 404, ERROR.format("NoSuchKey", "The specified key does not exist.").encode()
        elif self.headers["Authorization"] != self._expected():
            status, body = 403, ERROR.format("SignatureDoesNotMatch", "no &amp; no").encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _expected(self) -> str:
        request = AWSRequest("GET", f"http://{self.headers['Host']}{self.path}", headers={
            "X-Amz-Content-SHA256": self.headers["X-Amz-Content-Sha256"]})  # fmt: skip
        signer = S3SigV4Auth(Credentials("key", "secret"), "s3", "eu-west-1")
        request.context["timestamp"] = self.headers["X-Amz-Date"]
        request.headers["X-Amz-Date"] = self.headers["X-Amz-Date"]
        canonical = signer.canonical_request(request)
        signature = signer.signature(signer.string_to_sign(request, canonical), request)
        scope = f"key/{self.headers['X-Amz-Date'][:8]}/eu-west-1/s3/aws4_request"
        return (f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-content-sha256;x-amz-date, "
                f"Signature={signature}")  # fmt: skip

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def source() -> Iterator[S3Source]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield S3Source(f"http://127.0.0.1:{server.server_port}", "key", "secret", Clock().wall)
    server.shutdown()
    server.server_close()
    thread.join()


async def test_function_and_layer_from_a_bucket(tmp_path: Path, source: S3Source) -> None:
    where = {"S3Bucket": "bucket", "S3Key": "a/b c+.zip"}
    async with running(tmp_path, s3=source) as plane:

        def script(_: Any) -> None:
            client = plane.client("lambda", "eu-west-1")
            assert client.create_function(**function(Code=where))["CodeSize"] == len(CODE)
            client.get_waiter("function_active_v2").wait(FunctionName="f")
            updated = client.update_function_code(FunctionName="f", S3ObjectVersion="v 1", **where)
            assert updated["CodeSize"] == len(OLD)
            layer = client.publish_layer_version(LayerName="l", Content=where)
            assert layer["Content"]["CodeSize"] == len(CODE)
            client.close()

        await plane.drive(script)


async def test_what_a_bucket_does_not_have_is_told_in_its_words(tmp_path: Path, source: S3Source) -> None:
    async with running(tmp_path, s3=source) as plane:

        def script(client: Any) -> None:
            start = "Error occurred while GetObject. S3 Error Code: "
            for code, words in (
                ({"S3Bucket": "bucket", "S3Key": "k"}, f"{start}NoSuchKey. S3 Error Message: The specified key does "
                 "not exist."),
                ({"S3Bucket": "other", "S3Key": "k"}, f"{start}NoSuchBucket. S3 Error Message: The specified bucket "
                 "does not exist"),
                ({"S3Bucket": "bucket"}, "S3Bucket and S3Key are needed together."),
                ({"S3Bucket": "bucket", "S3Key": "a/b c+.zip"},
                 f"{start}SignatureDoesNotMatch. S3 Error Message: no & no"),
            ):  # fmt: skip
                assert refused(client.create_function, **function(Code=code)) == (
                    "InvalidParameterValueException", 400, words)  # fmt: skip
            away = plane.client("lambda", "eu-west-1")
            broken = refused(away.create_function, **function(Code={"S3Bucket": "bucket", "S3Key": "broken.zip"}))
            assert broken[0] == "InvalidParameterValueException" and broken[2].startswith("Could not unzip")
            assert away.list_functions()["Functions"] == client.list_functions()["Functions"] == []
            away.close()

        await plane.drive(script)


async def test_endpoint_that_does_not_answer(tmp_path: Path) -> None:
    async with running(tmp_path, s3=S3Source("http://127.0.0.1:9", "k", "s", Clock().wall)) as plane:
        found = await plane.drive(lambda client: refused(
            client.create_function, **function(Code={"S3Bucket": "bucket", "S3Key": "k"})))  # fmt: skip
        assert found[0] == "InvalidParameterValueException" and "ServiceUnavailable" in found[2]
