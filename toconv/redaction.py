"""Secrets in addresses: found by parsing, refused where a request holds one, hidden in whatever is shown or kept."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, unquote_plus

from toconv.plain_values import DEEPEST
from toconv.tracking_address import DATABASES, LIBPQ, VARIABLE

HIDDEN = "***"
SECRET_NAMES = {  # of a parameter, words of its name put together
    *("password", "passwd", "passphrase", "passcode", "pwd", "pass", "token", "secret", "credential", "credentials"),
    *("key", "apikey", "accesskey", "sig", "signature", "auth", "jwt", "sas", "odbcconnect"),
}
ENDS_OF_NAMES = ("password", "passwd", "passphrase", "token", "secret", "key", "signature", "credential", "credentials")
FILES = {"sslkey", "sslcert", "sslrootcert", "passfile"}  # parameters of databases that name a file
VARIABLES = (  # of the environment: what MLflow, W&B, Ray, the Hub, stores of files and PostgreSQL are shown
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "WANDB_API_KEY", "RAY_AUTH_TOKEN", "HF_TOKEN"),
    *(
        "HUGGING_FACE_HUB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SECURITY_TOKEN",
        "AZURE_STORAGE_ACCESS_KEY",
    ),
    *("AZURE_STORAGE_CONNECTION_STRING", "DATABRICKS_TOKEN", "PGPASSWORD"),
)
ADDRESSES = (VARIABLE, "MLFLOW_REGISTRY_URI", "WANDB_BASE_URL")  # variables whose value may hold one
SHORTEST = 6  # characters of a secret that is looked for by itself
# settings that are addresses, and of which kind one is that does not say so
KINDS_OF = {"cluster.address": "ray", "storage.study": "postgresql", "experiment.tracking_uri": "postgresql"}
KIND = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*$")


class Secret(NamedTuple):
    """Characters of a text, and what they are."""

    start: int
    end: int
    kind: str


def redact(text: str) -> str:
    """Without the secrets of addresses in it, and without those of the environment. What could be a part of one, as
    far as the line goes, is hidden too."""
    return next(redact_each([text]))


def redact_each(texts: Iterable[str]) -> Iterator[str]:
    """`redact` of many texts: the environment is read once."""
    known = _of_environment()
    for text in texts:
        for value in known:
            text = text.replace(value, HIDDEN)
        yield _without(text, secrets_in(text))


def secret_of(value: Any, depth: int = DEEPEST) -> str | None:
    """What of a value of a request is a secret, if something is; lists that are deeper are no value of one."""
    if isinstance(value, str):
        return next((found.kind for found in secrets_in(value)), None)
    if depth == 0 or not isinstance(value, Mapping | list | tuple):
        return None
    parts = [*value, *value.values()] if isinstance(value, Mapping) else value
    return next(filter(None, (secret_of(part, depth - 1) for part in parts)), None)


def secret_mistakes(request: Mapping[str, Any]) -> list[str]:
    """The settings, or keys of a sweep file, that hold a secret."""
    held = {key: kind for key, value in request.items() if (kind := secret_of(_with_kind(key, value)))}
    return [
        f"{key}: holds {kind}, and what a request says is kept and shown; {_instead(key)}" for key, kind in held.items()
    ]


def _with_kind(key: str, value: Any) -> Any:
    return f"{KINDS_OF[key]}://{value}" if key in KINDS_OF and isinstance(value, str) and "://" not in value else value


def _instead(key: str) -> str:
    if "tracking_uri" in key:
        return (
            "give it as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, of the "
            f"environment, or in ~/.mlflow/credentials, of mode 0600; or the whole address as {VARIABLE}"
        )
    if key.startswith("storage"):
        return "give it as PGPASSWORD of the environment, or in ~/.pgpass (PGPASSFILE) or a service file, of mode 0600"
    if key == "cluster.address":
        return "an address of a cluster has no user and no password; write HOST:PORT"
    return "give it by the environment, or in a file of mode 0600"


def secrets_in(text: str) -> Iterator[Secret]:
    """Of the addresses in a text, one after the other, none within another one."""
    at = text.find("://")
    while at >= 0:
        kind, line = KIND.search(text, max(0, at - 40), at), text.find("\n", at)
        end = at + 3
        for found in _secrets_of(kind[0] if kind else "", text, end, line if line >= 0 else len(text)):
            yield found
            end = found.end
        at = text.find("://", end)


def _secrets_of(scheme: str, text: str, start: int, end: int) -> Iterator[Secret]:
    """Of the address whose authority begins at `start`, in a line that ends at `end`. A parameter may have an @ and a
    password a question mark, so that both are looked for everywhere."""
    last: Secret | None = None
    for found in sorted([*_credentials(scheme, text, start, end), *_parameters(text, start, end)]):
        if last and found.start <= last.end:
            last = Secret(last.start, max(last.end, found.end), last.kind)
            continue
        if last:
            yield last
        last = found
    if last:
        yield last


def _credentials(scheme: str, text: str, start: int, end: int) -> Iterator[Secret]:
    user = _user(text[start:end])
    if user is None:
        return
    name, colon, _ = user.partition(":")
    is_database = scheme.partition("+")[0].lower() in (*DATABASES, LIBPQ)
    if not is_database or colon:  # a server may take a name alone for a token
        before = len(name) + 1 if is_database else 0
        yield Secret(start + before, start + len(user), "a password" if colon else "a name or a token")


def _user(line: str) -> str | None:
    """What stands before the host. Where a password may hold blanks, / or @, it ends at the last @ of all."""
    word = (line.split(maxsplit=1) or [""])[0] if not line[:1].isspace() else ""
    authority = re.split(r"[/?#]", word, maxsplit=1)[0]
    has_port = ":" in (authority.partition("]")[2] if authority.startswith("[") else authority)
    if "@" not in authority and not has_port:
        return None
    searched = line if has_port else word
    return searched.rpartition("@")[0] if "@" in searched else None


def _parameters(text: str, start: int, end: int) -> Iterator[Secret]:
    """`?name=value&…`, behind # and ; too."""
    for match in re.compile(r"[?&#;]([^=?&#;]{1,100})=").finditer(text, start, end):
        if match.start() < start or not _is_secret(match[1]):
            continue
        value = re.compile(r"[&\n]").search(text, match.end(), end)
        start = value.start() if value else end
        yield Secret(match.end(), start, f"the parameter {match[1].strip()[:40]}")


def _is_secret(name: str) -> bool:
    word = re.sub(r"[\W_]", "", unquote_plus(name).lower())
    return word not in FILES and (word in SECRET_NAMES or word.endswith(ENDS_OF_NAMES))


def _without(text: str, found: Iterator[Secret]) -> str:
    parts, end = [], 0
    for secret in found:
        parts += [text[end : secret.start], HIDDEN]
        end = secret.end
    return "".join([*parts, text[end:]])


def _of_environment() -> list[str]:
    """The longest first: one may hold another one."""
    given = {os.environ.get(name, "") for name in VARIABLES}
    for address in filter(None, map(os.environ.get, ADDRESSES)):
        for secret in secrets_in(address):
            whole = address[secret.start : secret.end]
            parts = {whole, whole.partition(":")[2]}
            given |= parts | {unquote(part) for part in parts}
    return sorted((value for value in given if len(value) >= SHORTEST), key=len, reverse=True)
