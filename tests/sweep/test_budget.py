"""What a sweep has spent, by the clock."""

import json
import time

import pytest

from toconv.sweep.budget import HOUR, Spent
from toconv.sweep.schema import Budget


def test_device_time_counts_every_trial_from_hand_out_to_end_over_all_starts(tmp_path):
    path, gpu = tmp_path / "spent.json", 2
    for _ in range(2):  # two starts, each with two trials side by side
        spent, start = Spent(path, gpu), time.monotonic()
        spent.began("a")
        spent.began("b")
        time.sleep(0.2)
        spent.ended("a")
        spent.ended("b")
        spent.ended("b")  # ended twice counts once
        time.sleep(0.1)  # idle
        spent.save()
        elapsed = time.monotonic() - start
    assert spent.gpu_hours * HOUR == pytest.approx(2 * gpu * 2 * 0.2, rel=0.2)
    assert 2 * 0.3 <= spent.hours * HOUR <= 2 * elapsed + 0.5
    assert json.loads(path.read_text())["gpu_hours"] == spent.gpu_hours


def test_a_killed_drivers_running_trials_count_as_far_as_they_were_seen(tmp_path):
    first = Spent(tmp_path / "spent.json", 1)
    first.began("a")
    time.sleep(0.1)
    first.save()
    assert Spent(tmp_path / "spent.json", 1).gpu_hours * HOUR == pytest.approx(0.1, rel=0.5)


def test_a_limit_is_reached_by_either_budget_and_without_a_gpu_by_hours_alone(tmp_path):
    spent = Spent(tmp_path / "spent.json", 0)
    spent.began("a")
    time.sleep(0.05)
    assert spent.over(Budget()) is None
    assert spent.over(Budget(gpu_hours=1e-9)) is None
    assert spent.over(Budget(hours=1e-6)) == "budget.hours=1e-06"
    assert spent.over(Budget(hours=1)) is None
