"""What commands import sooner or later, and what that sets in the environment. Ray reads how to authenticate when it is
imported."""

import io
import os
import secrets
from contextlib import redirect_stdout
from importlib import import_module

MODULES = (  # those of ours first: some set what a library reads when it is imported
    "toconv.sweep.tune.run",
    "toconv.tracking.mlflow_runs",
    "toconv.commands.export",
    "toconv.commands.sweep",
    "toconv.export.recommended",
    "toconv.report.write",
    "toconv.sweep.trainable",
    "toconv.tokens.encoders",
    "mlflow",
    "open_clip",
    "optuna.importance",
    "sklearn",
)
_before = dict(os.environ)
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex()}
with redirect_stdout(io.StringIO()):  # a terminal of the tests is none of the commands'
    for module in MODULES:
        import_module(module)
ENVIRONMENT = {key: value for key, value in os.environ.items() if _before.get(key) != value}
