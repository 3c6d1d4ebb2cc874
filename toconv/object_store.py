"""A folder of an object store (S3, Google's, a file system's), by pyarrow.fs: what is put there is there whole."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlsplit

from toconv.errors import MachineryError, RequestError, told
from toconv.redaction import redact
from toconv.settings import StoreSettings

AT_ONCE = 8  # objects that travel at a time
WAITS = (1.0, 4.0, 15.0)  # seconds, between tries
LOGINS = {  # where the libraries look for one
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment, ~/.aws (AWS_PROFILE), the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS of the environment, gcloud's own file, the machine's role",
}
GOOGLE_SECONDS = 15  # that its library tries for; of itself it tried for longer than 6 minutes where no login was found
REFUSED = re.compile(  # what is said of a login that is none, is over, or may not: no later try mends it
    r"AWS Error (ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|UNRECOGNIZED_CLIENT"
    r"|SIGNATURE_DOES_NOT_MATCH|INVALID_SIGNATURE|MISSING_AUTHENTICATION_TOKEN"
    r"|UNKNOWN \(HTTP status 40[013]\) during HeadObject)"  # which has no words
    r"|Unable to parse ExceptionName: (ExpiredToken|InvalidToken|TokenRefreshRequired)\b"
    r"|Could not create a OAuth2 access token"
)
Result = TypeVar("Result")


class ObjectStore:
    """Keys are paths below store.url. Logins come from where the libraries look for them: the environment, their own
    files, the machine's role."""

    def __init__(self, url: str) -> None:
        from pyarrow.fs import FileSystem, LocalFileSystem  # start-up: where store.url names one

        self.url = url
        try:
            self._files, root = FileSystem.from_uri(_bounded(url))
        except (ValueError, NotImplementedError) as error:
            raise RequestError(f"store.url={url}: cannot be used ({redact(told(error))})") from error
        except OSError as error:  # S3 is asked for the bucket's region
            raise MachineryError(f"store.url={url}: {redact(told(error))}") from error
        self._root, self._is_disk = root.rstrip("/"), isinstance(self._files, LocalFileSystem)

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[str]]:
        """It travels by its address, and logs in where it arrives."""
        return ObjectStore, (self.url,)

    @classmethod
    def asked(cls, settings: StoreSettings) -> ObjectStore | None:
        return cls(settings.url) if settings.url else None

    def check(self) -> None:
        """Write, read, remove and list a small object. Raises RequestError where the login is refused, MachineryError
        where something else is in the way."""
        name = f".{secrets.token_hex(8)}.probe"
        try:
            self._write(name, b"toconv")
            if self._read(name) != b"toconv":
                raise OSError("what was written is not what is read")
            self._files.delete_file(self._at(name))
            self._listed(name)
        except OSError as error:
            if self._is_refused(error):
                raise RequestError(f"store.url={self.url}: {self._refusal(error)}") from error
            raise MachineryError(f"store.url={self.url}: {redact(told(error))}") from error

    def put(self, key: str, content: bytes) -> None:
        """Raises MachineryError where it cannot be put, after some tries or because the login is refused."""
        self._tried(f"{key}: not put", lambda: self._write(key, content))

    def get(self, key: str) -> bytes | None:
        """None where there is none. Raises MachineryError where the store does not answer, after some tries."""
        return self._tried(f"{key}: not fetched", lambda: self._read(key))

    def remove(self, key: str) -> None:
        """Nothing where it is not there."""

        def delete() -> None:
            with suppress(FileNotFoundError):
                self._files.delete_file(self._at(key))

        self._tried(f"{key}: not removed", delete)

    def remove_folder(self, folder: str) -> None:
        """With all that is in it; nothing where it is not there."""

        def delete() -> None:
            with suppress(FileNotFoundError):
                self._files.delete_dir(self._at(folder))

        self._tried(f"{folder}: not removed", delete)

    def stamp(self, key: str) -> int | None:
        """When it was put, in nanoseconds of the store's own clock, which may count seconds; None where there is
        none."""
        info = self._tried(f"{key}: not looked up", lambda: self._files.get_file_info(self._at(key)))
        return info.mtime_ns if info.is_file else None

    def listed(self, folder: str, deep: bool = False) -> dict[str, int]:
        """{path below the folder: when it was put}, of what lies directly in it or, `deep`, anywhere below it."""
        return self._tried(f"{folder}: not listed", lambda: self._listed(folder, deep))

    def _at(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _listed(self, folder: str, deep: bool = False) -> dict[str, int]:
        from pyarrow.fs import FileSelector  # start-up: as above

        selector, above = FileSelector(self._at(folder), allow_not_found=True, recursive=deep), f"{self._at(folder)}/"
        found = self._files.get_file_info(selector)
        return {info.path.removeprefix(above): info.mtime_ns for info in found if info.is_file}

    def _read(self, key: str) -> bytes | None:
        try:
            with self._files.open_input_stream(self._at(key)) as stream:
                content: bytes = stream.read()
            return content
        except FileNotFoundError:
            return None

    def _write(self, key: str, content: bytes) -> None:
        """An object appears once it is whole; a file of a disk by rename, and what was written before it goes again
        where that fails."""
        target = self._at(key)
        if not self._is_disk:
            self._stream(target, content)
            return
        beside = f"{target}.{secrets.token_hex(4)}.tmp"
        self._files.create_dir(target.rpartition("/")[0], recursive=True)
        try:
            self._stream(beside, content)
            self._files.move(beside, target)
        except BaseException:
            with suppress(OSError):
                self._files.delete_file(beside)
            raise

    def _stream(self, place: str, content: bytes) -> None:
        with self._files.open_output_stream(place) as stream:
            stream.write(content)

    def _tried(self, failed: str, call: Callable[[], Result]) -> Result:
        for wait in (*WAITS, None):
            try:
                return call()
            except OSError as error:
                is_refused = self._is_refused(error)
                if wait is None or is_refused:
                    why = f", since {self._refusal(error)}" if is_refused else f" ({redact(told(error))})"
                    raise MachineryError(
                        f"store.url={self.url}: {failed}{why}; what is on this machine's disk stays"
                    ) from (None if is_refused else error)  # else the code of a permission makes it a wrong request
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _is_refused(self, error: OSError) -> bool:
        return not self._is_disk and (isinstance(error, PermissionError) or bool(REFUSED.search(str(error))))

    def _refusal(self, error: OSError) -> str:
        return (
            f"its login is refused, or may not write, read, list and remove there ({redact(told(error))}); one is "
            f"looked for in {LOGINS[urlsplit(self.url).scheme]}"
        )


def _bounded(url: str) -> str:
    if not url.startswith("gs://"):
        return url
    return f"{url}{'&' if '?' in url else '?'}retry_limit_seconds={GOOGLE_SECONDS}"
