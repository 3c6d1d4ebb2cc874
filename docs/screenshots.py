"""`python docs/screenshots.py NAME`: the documentation's pictures of the sweep in outputs/NAME.

docs/screenshot_table.png is the live table of a short sweep of its own, run in a terminal that this script reads;
docs/screenshot_mlflow.png and docs/screenshot_report.png are of outputs/NAME and of mlflow.db. Needs
requirements-extras.txt, Chromium and its driver.
"""

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlflow import MlflowClient  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.text import Text  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

from tests.browser import browser  # noqa: E402
from tests.running import serving  # noqa: E402

SHOWN = ("sweeps/grid_sizes.yaml", "training.epochs=3", "baselines=false")
COLUMNS, ROWS, ENDED = 104, 28, 6  # of the terminal; trials that have ended when it is photographed
OPENER = ".ag-row button[data-component-id*=runnamecellrenderer]"  # of the parent's row in MLflow
WITHOUT_TOOLS = "document.head.insertAdjacentHTML('beforeend', '<style>.modebar {display: none !important}</style>')"
SETTLING_SECONDS = 3.0
FRAME_START = re.compile(r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*")  # how rich takes the table before away


def terminal_frame(folder: Path) -> str:
    """What the live table showed when so many trials had ended, with its colours."""
    main, sub = pty.openpty()
    fcntl.ioctl(sub, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    command = [
        sys.executable,
        ROOT / "run_sweep.py",
        ROOT / SHOWN[0],
        *SHOWN[1:],
        "hardware.threads=1",
        f"data.tokens_dir={ROOT / 'outputs' / 'tokens'}",
        f"experiment.tracking_uri=sqlite:///{folder / 'mlflow.db'}",
    ]
    clean = {key: value for key, value in os.environ.items() if key != "CI"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=sub,
        stdout=sub,
        stderr=sub,
        start_new_session=True,
        env={**clean, "TERM": "xterm-256color"},
    )
    os.close(sub)
    out, found = "", ""
    while piece := read(main):
        out += piece
        if not found and (found := finished_frame(out)):
            os.killpg(process.pid, signal.SIGINT)  # and read on, since a full terminal would hold the sweep up
    process.wait()
    return found or sys.exit(f"the sweep showed no table with {ENDED} ended trials:\n{out[-2000:]}")


def read(terminal: int) -> str:
    """What comes next; empty once the other end is closed."""
    try:
        return os.read(terminal, 65536).decode(errors="replace")
    except OSError:
        return ""


def finished_frame(out: str) -> str:
    """The newest whole frame, once it tells of enough trials and two of them run."""
    for frame in reversed(FRAME_START.split(out)[:-1]):
        told = re.search(r"(\d+)/\d+ trials ended", frame)
        if told and "slots busy" in frame:
            return frame if int(told[1]) >= ENDED and frame.count(" s left") >= 2 else ""
    return ""


def picture_of_table(driver, frame: str, path: Path) -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(frame.replace("\r", "").strip("\n")), soft_wrap=True)
    svg = console.export_svg(title=f"python run_sweep.py {' '.join(SHOWN)}")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # nothing is asked of the network
    with tempfile.NamedTemporaryFile("w", suffix=".html") as page:
        page.write(f"<body style='margin:0;width:1200px'>{svg}")
        page.flush()
        driver.get(f"file://{page.name}")
        path.write_bytes(driver.find_element(By.TAG_NAME, "svg").screenshot_as_png)


def picture_of_mlflow(driver, name: str, path: Path) -> None:
    """The experiment's charts, its trials beside them."""
    experiment = MlflowClient(f"sqlite:///{ROOT / 'mlflow.db'}").get_experiment_by_name(name).experiment_id
    with serving(ROOT, "/health", sys.executable, "-m", "mlflow", "ui", "--workers", "1") as address:
        driver.get(address)
        for key, value in (
            ("mlflow.workflowType_v1", '"machine_learning"'),
            ("mlflow.assistant.panelOpen_v1", "false"),
            ("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true"),
        ):
            driver.execute_script("localStorage.setItem(arguments[0], arguments[1])", key, value)
        query = urlencode({"searchFilter": "tags.kind = 'trial'", "compareRunsMode": "CHART"})
        driver.get("about:blank")
        driver.get(f"{address}/#/experiments/{experiment}/runs?{query}")
        waiting = WebDriverWait(driver, 90)
        waiting.until(lambda d: d.find_elements(By.CSS_SELECTOR, OPENER))[0].click()
        waiting.until(lambda d: d.find_elements(By.CSS_SELECTOR, ".js-plotly-plot .scatterlayer path"))
        search = driver.find_element(By.CSS_SELECTOR, "input[placeholder='Search metric charts']")
        search.send_keys("^(distortion|perception|cosine)$")
        driver.execute_script(WITHOUT_TOOLS)
        time.sleep(SETTLING_SECONDS)
        driver.save_screenshot(str(path))


def main(name: str) -> None:
    docs = ROOT / "docs"
    with browser(1200, 900) as driver:
        driver.get(f"file://{ROOT / 'outputs' / name / 'report.html'}#front")
        time.sleep(SETTLING_SECONDS)
        driver.save_screenshot(str(docs / "screenshot_report.png"))
    with browser(1400, 760) as driver:
        picture_of_mlflow(driver, name, docs / "screenshot_mlflow.png")
        with tempfile.TemporaryDirectory() as folder:
            picture_of_table(driver, terminal_frame(Path(folder)), docs / "screenshot_table.png")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
