"""`toconv watch` as a process: who gets the report, who does not, and how it ends."""

import json
import signal
import socket
import subprocess
import sys
import urllib.error
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest
from selenium.webdriver.common.by import By
from starlette.testclient import TestClient

from tests.browser import DESKTOP, browser, console
from tests.repository import REPOSITORY
from tests.running import until
from toconv.commands import watch
from toconv.errors import RequestError
from toconv.paths import SweepPaths, write_atomic
from toconv.report.page.live import POLICY
from toconv.report.serving import application, bound
from toconv.sweep.running import Announcement

PAGE = f"""<!doctype html><html lang=en><head><meta charset=utf-8>
<meta http-equiv=Content-Security-Policy content="{POLICY}"><title>x</title></head>
<body><header><h1>x</h1></header><main><section id=a><details><summary>more</summary>NUMBER</details></section></main>
</body></html>"""
TOKEN = "a-token"


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """A sweep at work, whose driver is this process, with a report and other files."""
    monkeypatch.chdir(tmp_path)
    found = SweepPaths(tmp_path / "outputs" / "tiny")
    Announcement(found, 3).tell(planned=4, left=4)
    found.report.write_text(PAGE)
    found.results.write_text("secret")
    return found


@pytest.fixture
def client(paths):
    return TestClient(application(paths, TOKEN), base_url="http://127.0.0.1:8008", follow_redirects=False)


def test_the_link_gives_the_report_which_may_then_ask_for_news_alone(client):
    found = client.get(f"/{TOKEN}/")
    assert found.status_code == 200 and "<summary>more</summary>" in found.text
    assert "default-src 'none'" in found.text and "connect-src 'self'" in found.text
    assert found.headers["referrer-policy"] == "no-referrer" and found.headers["cache-control"] == "no-store"
    assert "server" not in found.headers and "access-control-allow-origin" not in found.headers


def test_the_news_is_how_the_sweep_stands_and_which_report_there_is(client, paths):
    before = client.get(f"/{TOKEN}/state").json()
    assert "tiny: running since" in before["says"] and before["written"]
    paths.report.unlink()
    assert client.get(f"/{TOKEN}/state").json()["written"] is None
    assert "There is no report yet" in client.get(f"/{TOKEN}/").text


def test_the_page_knows_which_report_it_shows_before_it_asks_for_news(client, paths):
    """Else one that is written between its two questions would never be shown."""
    page, news = client.get(f"/{TOKEN}/").text, client.get(f"/{TOKEN}/state").json()
    assert f"<script data-written={news['written']}>" in page
    paths.report.unlink()
    assert "data-written" not in client.get(f"/{TOKEN}/").text


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/report.html", "/state", "/another/", "/another/state", f"/{TOKEN}x/", "/a-tok%C3%A9/"),
        *(
            f"/{TOKEN}{path}"
            for path in ("", "/results.csv", "/../tiny/results.csv", "/%2e%2e/results.csv", "//etc/hosts")
        ),
    ],
)
def test_without_the_token_and_for_anything_else_there_is_nothing(client, path):
    found = client.get(path)
    assert found.status_code in {403, 307} and "secret" not in found.text and TOKEN not in found.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent(client, method):
    assert client.request(method, f"/{TOKEN}/").status_code == 403


@pytest.mark.parametrize("host", ["attacker.example", "attacker.example:8008", "127.0.0.1.attacker.example", "", "0"])
def test_by_another_name_of_the_machine_there_is_nothing(client, host):
    assert client.get(f"/{TOKEN}/", headers={"Host": host}).status_code == 400
    assert client.get(f"/{TOKEN}/", headers={"Host": "localhost:9"}).status_code == 200


def test_a_port_that_is_taken_is_refused(paths):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RequestError, match=f"--port {port}: is taken already"):
            watch.main(["tiny", "--port", str(port)])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nothing"], "holds no sweep; there are tiny"),
        (["tiny", "--port", "70000"], "--port 70000: must be 1 to 65535"),
        (["tiny", "--port", "x"], "not understood"),
        ([], "give the name of one sweep"),
        (["tiny", "--open"], "--open: no such option"),
    ],
)
def test_what_cannot_be_done_is_refused(paths, words, says):
    with pytest.raises(RequestError, match=says):
        watch.main(words)


def test_it_listens_at_this_machine_alone():
    with bound(0) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


@contextmanager
def watching(folder):
    """`toconv watch tiny`; yields its process and the link."""
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "toconv" / "__main__.py"), "watch", "tiny"],
        cwd=folder,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        line = next(line for line in process.stdout if "http://" in line)
        yield process, line.split()[1]
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(paths, number):
    with watching(paths.root.parent.parent) as (process, link):
        until(lambda: urlopen(link).status == 200)
        process.send_signal(number)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and "Traceback" not in printed and "error" not in printed


@pytest.mark.slow
def test_the_end_of_the_sweep_is_said_and_the_last_report_is_served_on(paths, tmp_path):
    told = json.loads(paths.running.read_text())
    with watching(tmp_path) as (process, link):
        until(lambda: "running since" in json.load(urlopen(f"{link}state"))["says"])
        write_atomic(paths.running, json.dumps({**told, "left": 0, "until": told["since"]}))
        assert "the sweep runs no more (done)" in next(line for line in process.stdout if "runs no more" in line)
        assert urlopen(link).status == 200 and "done" in json.load(urlopen(f"{link}state"))["says"]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urlopen(Request(link.rstrip("/") + "x/"))


@pytest.mark.slow
def test_a_page_renews_itself_as_the_report_is_written_anew_and_stays_as_it_was(paths, tmp_path):
    with watching(tmp_path) as (_, link), browser(*DESKTOP) as driver:
        driver.get(link)
        until(lambda: "running since" in driver.find_element(By.CLASS_NAME, "live").text)
        driver.find_element(By.TAG_NAME, "summary").click()
        write_atomic(paths.report, PAGE.replace("NUMBER", "0.1234"))
        shown = "return document.querySelector('details')?.innerText ?? ''"  # of a page that is just renewed: nothing
        until(lambda: "0.1234" in driver.execute_script(shown))
        assert driver.find_element(By.TAG_NAME, "details").get_dom_attribute("open") is not None
        assert console(driver) == []
