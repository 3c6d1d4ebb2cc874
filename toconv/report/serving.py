"""A sweep's report at 127.0.0.1, for whoever has the link: `toconv watch`. The only module that knows the server."""

import errno
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from threading import Event, Thread

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from toconv.errors import RequestError, ToconvError
from toconv.paths import SweepPaths
from toconv.progress import console, phase
from toconv.report.page.live import live, waiting
from toconv.sweep.running import at_work, running, standing
from toconv.sweep.status import lines, look

LOOPBACK = "127.0.0.1"
HOSTS = [LOOPBACK, "localhost"]  # what a request may call this machine: any other name may be an attacker's, led here
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the token is in the address
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
REFUSED = "Refused: open the link that toconv watch printed.\n"
LOOK_SECONDS = 2.0
TAKEN = {errno.EADDRINUSE: "is taken already", errno.EACCES: "is for the administrator alone"}


def serve(paths: SweepPaths, port: int) -> None:
    """Until SIGINT or SIGTERM; port 0 is any that is free. Raises RequestError where the port cannot be had."""
    token = secrets.token_urlsafe(24)
    config = uvicorn.Config(
        application(paths, token),
        loop="asyncio",
        lifespan="off",
        log_level="error",
        access_log=False,  # it would show the token
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    with closing(bound(port)) as listening, end_is_said(paths):
        console.print(f"{paths.root.name}: http://{LOOPBACK}:{listening.getsockname()[1]}/{token}/ (Ctrl-C ends it)")
        with phase(f"serving the report of {paths.root.name}"), suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def bound(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a server that ended a moment ago
    try:
        listening.bind((LOOPBACK, port))
    except OSError as error:
        listening.close()
        why = TAKEN.get(error.errno or 0, f"cannot be had ({error.strerror})")
        raise RequestError(f"--port {port}: {why}; name another one, or none for any that is free") from error
    return listening


def application(paths: SweepPaths, token: str) -> Starlette:
    """Two answers, the report and how its sweep stands, below the token; everything else is refused."""

    def given(answer: Callable[[SweepPaths], Response]) -> Callable[[Request], Response]:
        def checked(request: Request) -> Response:
            known = secrets.compare_digest(request.path_params["token"].encode(), token.encode())
            return answer(paths) if known else refused(request)

        return checked

    routes = [Route("/{token}/", given(report)), Route("/{token}/state", given(state))]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
        exception_handlers={404: refused, 405: refused},
    )


def refused(request: Request, error: Exception | None = None) -> Response:
    return PlainTextResponse(REFUSED, 403, HEADERS)


def report(paths: SweepPaths) -> Response:
    before = written(paths)  # of one that is replaced meanwhile the page asks again
    try:
        text = live(paths.report.read_text(), before)
    except FileNotFoundError:
        text = live(waiting(paths.root.name), None)
    return HTMLResponse(text, headers=HEADERS)


def written(paths: SweepPaths) -> str | None:
    """A number that is another one for each report; None where there is none."""
    with suppress(FileNotFoundError):
        return str(paths.report.stat().st_mtime_ns)  # more digits than JavaScript's numbers have
    return None


def state(paths: SweepPaths) -> Response:
    """{written: as `written` says, or null; says: how the sweep stands}"""
    try:
        says = "; ".join(line.strip() for line in lines(look(paths))[:2])
    except ToconvError as error:
        says = str(error)
    return JSONResponse({"written": written(paths), "says": says}, headers=HEADERS)


@contextmanager
def end_is_said(paths: SweepPaths) -> Iterator[None]:
    """Within, a line once the sweep is at work no more, at once where it is not."""
    over = Event()

    def watch() -> None:
        before = True
        while True:
            now = at_work(paths)
            if before and not now:
                how = f"{paths.root.name}: the sweep runs no more ({standing(paths, running(paths))})"
                console.print(f"{how}; its last report is served until Ctrl-C")
            before = now
            if over.wait(LOOK_SECONDS):
                return

    Thread(target=watch, daemon=True, name="watch").start()
    try:
        yield
    finally:
        over.set()
