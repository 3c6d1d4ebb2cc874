"""A server of S3's interface in this process (moto), and what a test asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError


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
