"""What the measurements of the lab stand on, without a lab: no root is needed.

    python3 -B -m unittest discover -s lab/tests
"""

import glob
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from labkit.capture import ACK, FIN, RST, Capture, Frame, parse  # noqa: E402
from labkit.errors import LabError  # noqa: E402
from labkit.guest import Command, compile_tool, mac, modules_in_order  # noqa: E402
from labkit.topology import NODES_MAX, Topology  # noqa: E402

ADDRESS, PEER = "192.0.2.101", "192.0.2.201"
INTERFACE_NAME_MAX = 15


def tcp(source, flags):
    """A frame of TCP without options."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, socket.inet_aton(source), socket.inet_aton(PEER))
    return bytes(12) + b"\x08\x00" + head + struct.pack("!HHIIBBHHH", 2049, 700, 0, 0, 0x50, flags, 0, 0, 0)


def arp(sender):
    """An announcement."""
    return bytes(12) + b"\x08\x06" + struct.pack(
        "!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, bytes(6), socket.inet_aton(sender), bytes(6), socket.inet_aton(sender))


class TopologyTests(unittest.TestCase):
    """Names and addresses."""

    def test_nothing_is_used_twice(self):
        nodes = Topology(NODES_MAX).nodes
        addresses = [address for node in nodes for address in node.addresses.values()]
        self.assertEqual(len(addresses), len(set(addresses)))
        names = [node.port(network) for node in nodes for network in node.addresses]
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual(max(len(name) for name in names), INTERFACE_NAME_MAX)


class CaptureTests(unittest.TestCase):
    """What a source says for an address."""

    def test_frames_are_told_apart(self):
        address = socket.inet_aton(ADDRESS)
        self.assertEqual(parse(tcp(ADDRESS, ACK), address), ("tcp", ACK, f"{PEER}:700"))
        self.assertEqual(parse(arp(ADDRESS), address), ("arp", 0, ADDRESS))
        self.assertIsNone(parse(tcp(PEER, ACK), address))
        self.assertIsNone(parse(arp(PEER), address))
        self.assertIsNone(parse(b"", address))

    def test_a_source_that_speaks_is_seen(self):
        source, destination = Topology(1).nodes
        capture = Capture([source, destination], ADDRESS)
        capture.frames = [Frame(1, source, "tcp", ACK), Frame(3, destination, "arp"), Frame(4, destination, "tcp", ACK)]
        capture.departures = [(0.5, destination), (2, source)]
        silent = capture.of_move("a", "b", 0.9)
        self.assertEqual((silent["after_leaving"], silent["after_arrival"], silent["ending"]), (0, 0, 0))
        capture.frames.append(Frame(2.5, source, "tcp", RST))
        capture.frames.append(Frame(3.5, source, "arp"))
        loud = capture.of_move("a", "b", 0.9)
        self.assertEqual((loud["after_leaving"], loud["after_arrival"], loud["ending"]), (2, 1, 1))
        capture.frames = [Frame(1.5, source, "tcp", FIN | ACK)]
        self.assertEqual(capture.of_move("a", "b", 0.9)["ending"], 1)


class GuestTests(unittest.TestCase):
    """What guests are booted with."""

    def test_addresses_of_guests_differ(self):
        self.assertEqual(mac("02:60", "192.0.2.201"), "02:60:c0:00:02:c9")
        self.assertNotEqual(mac("02:61", "169.254.1.2"), mac("02:61", "169.254.2.2"))

    @unittest.skipUnless(glob.glob("/usr/lib/uml/modules/*/modules.dep"), "user-mode-linux is not installed")
    def test_modules_come_after_what_they_need(self):
        names = [os.path.basename(path) for path in modules_in_order(["8021q", "bridge"])]
        self.assertEqual(len(names), len(set(names)))
        for first, then in (("llc.ko", "stp.ko"), ("stp.ko", "garp.ko"), ("garp.ko", "8021q.ko"), ("ipv6.ko", "bridge.ko")):
            self.assertLess(names.index(first), names.index(then))
        self.assertEqual(modules_in_order([]), [])
        with self.assertRaises(LabError):
            modules_in_order(["no-such-module"])


class ToolTests(unittest.TestCase):
    """The programs of the guests, on this machine."""

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def verify(self, name, *arguments):
        """Runs the tester."""
        return subprocess.run([compile_tool("verify", self.directory.name), os.path.join(self.directory.name, name),
                               *arguments], capture_output=True, text=True, check=False, timeout=60)

    def test_the_tester_is_deterministic_and_finds_a_changed_byte(self):
        first, second = self.verify("one", "7", "300"), self.verify("two", "7", "300")
        self.assertEqual((first.returncode, first.stdout), (0, second.stdout))
        self.assertIn("errors=0", first.stdout)
        self.assertNotEqual(self.verify("three", "8", "300").stdout.split("digest=")[1], first.stdout.split("digest=")[1])
        spoiled = self.verify("four", "7", "300", "290")
        self.assertEqual(spoiled.returncode, 1)
        self.assertIn("differs at", spoiled.stdout)

    def test_the_agent_runs_commands_side_by_side(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        agent = subprocess.Popen([compile_tool("agent", self.directory.name), "127.0.0.1", str(port)])
        self.addCleanup(agent.wait)
        self.addCleanup(agent.terminate)

        def command(text):
            for _ in range(100):
                try:
                    return Command(socket.create_connection(("127.0.0.1", port)), text, None)
                except ConnectionRefusedError:
                    time.sleep(0.05)
            raise AssertionError("the agent does not listen")

        reader, sleeper = command("cat; exit 3"), command("exec sleep 60")
        told = command("echo out; echo error >&2").wait(20)
        self.assertEqual((told.status, told.output, told.error), (0, "out\n", "error\n"))
        reader.write(b"a line\n")
        reader.write(b"")
        echoed = reader.wait(20)
        self.assertEqual((echoed.status, echoed.output), (3, "a line\n"))
        sleeper.signal(signal.SIGTERM)
        self.assertEqual(sleeper.wait(20).status, 128 + signal.SIGTERM)
        large = command("head -c 3000000 /dev/zero").wait(20)
        self.assertEqual(len(large.output), 3_000_000)


if __name__ == "__main__":
    unittest.main()
