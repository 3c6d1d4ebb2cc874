"""How many trials fit into a cluster that machines join and leave, asked of a real one."""

import pytest
import ray

from tests.running import until
from toconv.sweep.cluster import Cluster, alive_nodes
from toconv.sweep.room import Room
from toconv.sweep.schema import Resources

pytestmark = pytest.mark.slow


class Told:
    """What steering is told."""

    def __init__(self):
        self.slots = []

    def has_room(self, slots):
        self.slots.append(slots)


def test_machines_that_join_and_leave_are_counted_and_one_that_holds_no_trial_changes_nothing(monkeypatch):
    from ray.cluster_utils import Cluster as Nodes

    monkeypatch.setattr("toconv.sweep.room.LOOK_SECONDS", -1.0)
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    ray.init(nodes.address, include_dashboard=False, log_to_driver=False)
    try:
        cluster, told = Cluster(), Told()
        room, large = (Room(Resources(cpu=cpu, gpu=0), cluster, told) for cpu in (1, 2))
        room.look()
        other = nodes.add_node(num_cpus=2)
        room.look()
        nodes.remove_node(other)
        until(lambda: len(alive_nodes()) == 1)  # one that did not end in a second is killed: Ray learns of it later
        room.look()
        large.look()
        assert told.slots == [1, 3, 1]
        other = nodes.add_node(num_cpus=2)
        with large.each_with(Resources(cpu=0.5, gpu=0)):
            large.look()
        assert told.slots[3:] == [6, 6, 1], "what a trial asks for within, then and as it was"
        nodes.remove_node(other)
        del told.slots[3:]
        monkeypatch.delenv("RAY_ADDRESS")
        room.look()
        assert told.slots == [1, 3, 1], "a cluster of the sweep's own stays as it is"
    finally:
        cluster.stop()
        ray.shutdown()
        nodes.shutdown()
