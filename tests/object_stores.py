"""A server of S3's interface in this process (moto), and what a test asks of it; and one that refuses whatever is
asked, in S3's words."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import boto3
from botocore.exceptions import ClientError

ROOT = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}


@dataclass
class S3:
    url: str  # store.url
    client: Any  # boto3's

    @property
    def bucket(self) -> str:
        return urlsplit(self.url).netloc

    def make_bucket(self) -> None:
        self.client.create_bucket(Bucket=self.bucket)

    def remove_bucket(self) -> None:
        """With all that is in it and is put meanwhile, as if it had never been."""
        try:
            for each in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", []):
                self.client.delete_object(Bucket=self.bucket, Key=each["Key"])
            self.client.delete_bucket(Bucket=self.bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] == "BucketNotEmpty":
                self.remove_bucket()
            elif error.response["Error"]["Code"] != "NoSuchBucket":
                raise

    def modified(self) -> dict[str, datetime]:
        """By key; without the markers of folders."""
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {each["Key"]: each["LastModified"] for each in found if not each["Key"].endswith("/")}

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    @property
    def address(self) -> str:
        return str(self.client.meta.endpoint_url)

    def login(self, *actions: str) -> dict[str, str]:
        """Variables of the environment, of a user who may do so much."""
        iam, name = boto3.client("iam", endpoint_url=self.address, **ROOT), secrets.token_hex(8)
        iam.create_user(UserName=name)
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName="some", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    @contextmanager
    def logins_checked(self) -> Iterator[None]:
        """Within, only what a user may do is done."""

        def free_actions(count: str) -> None:
            header = {"Content-Type": "text/plain"}
            urlopen(Request(f"{self.address}/moto-api/reset-auth", count.encode(), header, method="POST"))

        free_actions("0")
        try:
            yield
        finally:
            free_actions("inf")


@contextmanager
def refusing(code: str, status: int) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that says this to every request, and the methods that it was asked for."""
    asked = list[str]()

    class Refusal(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(self.command)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            content = f"<Error><Code>{code}</Code><Message>in words</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

        def log_message(self, *said: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
