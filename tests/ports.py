"""Ports for servers of the tests' own."""

import random
import socket
from contextlib import suppress

PORTS = range(20_000, 32_000)  # Ray's workers have those before, and whoever connects or asks for any has those after


def free_port():
    """One of the loopback address that nobody has, and that nobody is given by chance before a server has it."""
    for port in random.SystemRandom().sample(PORTS, 100):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
