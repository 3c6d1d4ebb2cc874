"""No secret of an address, however it is written, is left in a text or taken in a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toconv import config
from toconv.commands import train
from toconv.errors import RequestError
from toconv.redaction import VARIABLES, redact, redact_each, secret_of
from toconv.sweep.file import load_sweep

KNOWN = "S3CR3T"  # within every secret of these tests, and in nothing else
SERVERS, DATABASES = (
    ["http", "https", "HTTPS", "s3", "foo"],
    ["postgresql", "postgres", "mysql+pymysql", "mssql+pyodbc"],
)
LINE = st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",)), max_size=8)
SECRET = st.tuples(LINE, LINE).map(KNOWN.join)
TOKEN = st.text("abcXYZ019._~-%!$*+,", max_size=8).map(lambda text: text + KNOWN)
NAME = st.text("abcXYZ019._~-%", max_size=8)
HOST = st.sampled_from(["h", "mlflow.example.org", "[::1]", "127.0.0.1"]).flatmap(
    lambda host: st.sampled_from([host, f"{host}:5000"])
)
REST = st.sampled_from(["", "/", "/db", "/a/@scope/x", "/?x=1&y=2", "#part"])
PARAMETERS = ["password", "PASSWORD", "pass%77ord", "access_token", "token", "key", "api-key", "sig", "X-Amz-Signature"]
BEFORE, AFTER = (
    st.sampled_from(["", "no route to ", "a@b see ", '{"uri": "']),
    st.sampled_from(["", " is gone", '"}', "\nnext"]),
)


@given(st.sampled_from(SERVERS + DATABASES), NAME, SECRET, HOST, REST, BEFORE, AFTER)
def test_a_password_is_hidden_whatever_is_in_it(scheme, name, password, host, rest, before, after):
    address = f"{scheme}://{name}:{password}@{host}{rest}"
    assert KNOWN not in redact(before + address + after) and secret_of(address) == "a password"


@given(st.sampled_from(SERVERS), TOKEN, HOST, REST, BEFORE, AFTER)
def test_a_name_without_a_password_may_be_a_token(scheme, token, host, rest, before, after):
    address = f"{scheme}://{token}@{host}{rest}"
    assert KNOWN not in redact(before + address + after) and secret_of(address)


@given(
    st.sampled_from([*SERVERS, *DATABASES, "sqlite"]),
    HOST,
    st.sampled_from("?&#;"),
    st.sampled_from(PARAMETERS),
    SECRET.map(lambda value: value.replace("&", "%26")),
    BEFORE,
    AFTER,
)
def test_a_parameter_that_is_called_a_secret_is_hidden(scheme, host, mark, name, value, before, after):
    address = f"{scheme}://{host}/x?y=1{mark}{name}={value}"
    assert KNOWN not in redact(before + address + after) and secret_of([address])


@given(
    st.lists(st.sampled_from(["://", "http://", "@", ":", "/", "?", "#", "&", "token=", "a", " ", "\n"]) | LINE).map(
        "".join
    )
)
def test_any_text_is_redacted_once_and_for_all(text):
    redacted = redact(text)
    assert redact(redacted) == redacted and redacted.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000 (MLFLOW_TRACKING_URI)",
        "sqlite:////data/me@work/mlflow.db",
        "postgresql://me@host/mlflow?sslmode=require&sslkey=/x/client.key",
        "http://[::1]:5000/#/experiments/1?compare=true",
        "https://registry.example.org/npm/@scope/name",
        "databricks://profile:scope",
        "mail me@example.org, 3:4, a://b",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redact(text) == text and secret_of(text) is None


def test_secrets_of_the_environment_are_known_in_any_text(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, f"{KNOWN}-{name}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:p%40ss%20w0rd@host")
    text = " ".join([*(f"{KNOWN}-{name}" for name in VARIABLES), "p@ss w0rd", "p%40ss%20w0rd"])
    assert redact(text) == " ".join(["***"] * (len(VARIABLES) + 2))
    assert list(redact_each([text, "plain"])) == [redact(text), "plain"]


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("settings", "experiment.tracking_uri"),
        ("settings", "data.root"),
        ("grid", "encoder.weights"),
        ("search", "encoder.weights"),
        ("start_with", "experiment.tracking_uri"),
        ("evaluation", "command"),
        ("objectives", "distortion"),
        ("settings", "no.such"),
    ],
)
def test_a_sweep_file_that_holds_one_is_refused_before_its_values_are_shown(tmp_path, section, key):
    address = f"http://me:{KNOWN}@host"
    value = {"grid": {key: [1, address]}, "search": {key: {"choices": [address]}}, "start_with": [{key: address}]}
    file = tmp_path / "sweep.yaml"
    file.write_text(config.json.dumps({"name": "a", "trials": "many", section: value.get(section, {key: address})}))
    with pytest.raises(RequestError, match=f"{section}.*: holds a password, .* of mode 0600") as caught:
        load_sweep(file, [])
    assert KNOWN not in str(caught.value)


def test_a_command_line_that_holds_one_is_refused_too():
    word = f"experiment.tracking_uri=https://{KNOWN}@host"
    for refuse in (lambda: config.compose(config.parse_overrides([word])), lambda: train.main([word])):
        with pytest.raises(RequestError, match="holds a name or a token, .* MLFLOW_TRACKING_TOKEN") as caught:
            refuse()
        assert KNOWN not in str(caught.value)


def test_one_that_is_put_together_is_refused():
    texts = [f"encoder.name=http://me:{KNOWN}", "experiment.tracking_uri=${encoder.name}@host"]
    with pytest.raises(RequestError, match="experiment.tracking_uri: holds a password") as caught:
        config.compose(config.parse_overrides(texts))
    assert KNOWN not in str(caught.value)
