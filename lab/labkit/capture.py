"""Frames that nodes send for an address, seen where their links meet the bridge, and the moments at which the address leaves
a node: what shows that a source says nothing any more once its address is gone."""

import contextlib
import socket
import struct
import threading
import time

from . import namespaces
from .topology import SWITCH, Node

ETHERTYPE_ALL, ETHERTYPE_IPV4, ETHERTYPE_ARP = 0x0003, 0x0800, 0x0806
PROTOCOL_TCP = 6
FIN, RST, ACK = 0x01, 0x04, 0x10
SNAP_BYTES = 128
# linux/socket.h, linux/rtnetlink.h: nanoseconds of arrival beside each frame, and what is told of addresses.
SO_TIMESTAMPNS = 35
RTMGRP_IPV4_IFADDR = 0x10
RTM_DELADDR = 21
IFA_LOCAL = 2
# struct packet: frames that came in from the link, as opposed to those that the bridge sends to the node.
PACKET_OUTGOING = 4


class Frame:
    """A frame that a node sent for the address."""

    def __init__(self, at, node, kind, flags=0, peer=""):
        self.at, self.node, self.kind, self.flags, self.peer = at, node, kind, flags, peer

    @property
    def ends_a_connection(self):
        """Whether it is a FIN or a RST."""
        return bool(self.flags & (FIN | RST))


def parse(frame, address):
    """(kind, flags, peer) of a frame that is sent for the address; None for all others."""
    if len(frame) < 34:
        return None
    kind = struct.unpack_from("!H", frame, 12)[0]
    if kind == ETHERTYPE_ARP and frame[28:32] == address:
        return "arp", 0, socket.inet_ntoa(frame[38:42])
    if kind != ETHERTYPE_IPV4 or frame[26:30] != address:
        return None
    start = 14 + (frame[14] & 0x0F) * 4
    if frame[23] != PROTOCOL_TCP or len(frame) < start + 14:
        return "ip", 0, socket.inet_ntoa(frame[30:34])
    return "tcp", frame[start + 13], f"{socket.inet_ntoa(frame[30:34])}:{struct.unpack_from('!H', frame, start + 2)[0]}"


class Capture:
    """Listens at the ports of nodes in the client network, from `start` to `stop`."""

    def __init__(self, nodes, address):
        self.nodes, self.text, self.address = nodes, address, socket.inet_aton(address)
        self.frames, self.departures = [], []
        self._sockets, self._threads, self._lock = [], [], threading.Lock()
        self._is_ending = False

    def start(self):
        """Begins to listen."""
        for node in self.nodes:
            self._listen(self._packet_socket(node), self._frames, node)
            self._listen(self._address_socket(node), self._addresses, node)
        return self

    def stop(self):
        """Ends."""
        self._is_ending = True
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    @staticmethod
    def _packet_socket(node):
        def make():
            one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE_ALL))
            one.bind((node.port("client"), ETHERTYPE_ALL))
            one.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
            return one
        return namespaces.inside(SWITCH, make)

    @staticmethod
    def _address_socket(node):
        def make():
            one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            one.bind((0, RTMGRP_IPV4_IFADDR))
            return one
        return namespaces.inside(node.namespace, make)

    def _listen(self, one, body, node):
        one.settimeout(0.2)
        self._sockets.append(one)
        thread = threading.Thread(target=self._until_the_end, args=(one, body, node), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _until_the_end(self, one, body, node):
        while not self._is_ending:
            with contextlib.suppress(TimeoutError):
                body(one, node)

    def _frames(self, one, node):
        data, ancillary, _, sender = one.recvmsg(SNAP_BYTES, 64)
        if sender[2] == PACKET_OUTGOING:
            return
        found = parse(data, self.address)
        if found is None:
            return
        at = time.time()
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = struct.unpack("qq", value[:16])
                at = seconds + nanoseconds / 1e9
        with self._lock:
            self.frames.append(Frame(at, node, *found))

    def _addresses(self, one, node):
        data, at = one.recv(65536), time.time()
        # nlmsghdr (16 bytes), ifaddrmsg (8 bytes), attributes.
        _, kind = struct.unpack_from("=IH", data)
        if kind != RTM_DELADDR:
            return
        offset = 24
        while offset + 4 <= len(data):
            length, attribute = struct.unpack_from("=HH", data, offset)
            if attribute == IFA_LOCAL and data[offset + 4:offset + 8] == self.address:
                with self._lock:
                    self.departures.append((at, node))
            offset += max(4, (length + 3) & ~3)

    def of_move(self, source: Node, destination: Node, since):
        """What a move showed, from a point in time on: when the address left the source, and how many frames the source sent
        for it after that, how many after the destination had begun, and how many that end a connection at any time."""
        with self._lock:
            frames = [frame for frame in self.frames if frame.at >= since]
            departures = [at for at, node in self.departures if node is source and at >= since]
        arrivals = [frame.at for frame in frames if frame.node is destination]
        of_source = [frame for frame in frames if frame.node is source]
        left, begun = min(departures, default=None), min(arrivals, default=None)
        return {
            "left": left, "arrived": begun,
            "after_leaving": sum(1 for frame in of_source if left is not None and frame.at > left),
            "after_arrival": sum(1 for frame in of_source if begun is not None and frame.at > begun),
            "ending": sum(1 for frame in of_source if frame.ends_a_connection),
            "announcements": sum(1 for frame in frames if frame.node is destination and frame.kind == "arp"),
            "frames_of_source": len(of_source),
        }
