"""What a sweep has spent, by the clock."""

import json
import time

from toconv.sweep.budget import HOUR, Spent
from toconv.sweep.schema import Budget


def test_device_time_counts_every_trial_from_hand_out_to_end_over_all_starts(tmp_path):
    path, gpu, least, most, elapsed = tmp_path / "spent.json", 2, 0.0, 0.0, 0.0
    for _ in range(2):  # two starts, each with two trials side by side
        start = time.monotonic()
        spent = Spent(path, gpu)
        spent.began("a")
        spent.began("b")
        begun = time.monotonic()
        time.sleep(0.2)
        least += time.monotonic() - begun
        spent.ended("a")
        spent.ended("b")
        most += time.monotonic() - start
        time.sleep(0.1)  # idle
        spent.ended("b")  # ended twice counts once
        spent.save()
        elapsed += time.monotonic() - start
    assert 2 * gpu * least <= spent.gpu_hours * HOUR <= 2 * gpu * most
    assert 2 * 0.3 <= spent.hours * HOUR <= elapsed + 0.5
    assert json.loads(path.read_text())["gpu_hours"] == spent.gpu_hours


def test_a_killed_drivers_running_trials_count_as_far_as_they_were_seen(tmp_path):
    first = Spent(tmp_path / "spent.json", 1)
    start = time.monotonic()
    first.began("a")
    time.sleep(0.1)
    first.save()
    seen = time.monotonic() - start
    time.sleep(0.1)
    assert 0.1 <= Spent(tmp_path / "spent.json", 1).gpu_hours * HOUR <= seen


def test_a_limit_is_reached_by_either_budget_and_without_a_gpu_by_hours_alone(tmp_path):
    spent = Spent(tmp_path / "spent.json", 0)
    spent.began("a")
    time.sleep(0.05)
    assert spent.over(Budget()) is None
    assert spent.over(Budget(gpu_hours=1e-9)) is None
    assert spent.over(Budget(hours=1e-6)) == "budget.hours=1e-06"
    assert spent.over(Budget(hours=1)) is None
