"""`toconv report`: a sweep's report, figures and recommended compressors anew, from its ledger and folders."""

from toconv.command_line import one_name
from toconv.errors import ExitCode
from toconv.paths import SweepPaths
from toconv.progress import console
from toconv.sweep.lock import only_driver
from toconv.sweep.recorded import read_request

USAGE = """
usage: toconv report NAME

Writes outputs/NAME/report.html, figures/ and recommended/ anew. Trains nothing, also where the sweep has not ended.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong name, and while the sweep runs."""
    from toconv.export.recommended import export_recommended  # start-up: torch, matplotlib
    from toconv.report.write import write_report
    from toconv.sweep.session import recorded_driver

    paths = SweepPaths.named(one_name(arguments, USAGE))
    facts = read_request(paths)
    with only_driver(paths):
        driver = recorded_driver(paths)
        write_report(driver, facts)
        export_recommended(driver)
    console.print(f"{paths.report} (for a paper: {paths.figures})")
    return ExitCode.DONE
