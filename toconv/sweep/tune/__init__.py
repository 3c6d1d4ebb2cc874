"""Trials side by side on Ray Tune. The only modules that know Tune.

Tune schedules; it decides nothing that the ledger does not know. Its own checkpoints and restore are not used: a
trial's folder and the ledger hold all that a later start needs."""

import toconv.sweep.cluster  # noqa: F401 - sets the environment that Ray reads when it is imported
