"""
Packet captures, by dpkt: made, read and written through paths, wherever these are.

No word of tempscope in here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias


__all__ = ["CaptureError", "Packet", "Tell", "dpkt", "make_capture", "read", "silent", "write"]

dpkt: Any = import_module("dpkt")  # without types, and it makes the fields of its packets at run time

Packet: TypeAlias = tuple[float, bytes]
"""When it was seen, in seconds since the epoch, and its bytes."""

Tell: TypeAlias = Callable[[float], None]
"""Called with the fraction that is done."""

ETHERNET = 1
_EVERY = 200
_PORTS = (53, 80, 443, 8080)


class CaptureError(Exception):
    """A file that is no packet capture, or not one that can be worked on."""


def silent(_fraction: float) -> None:
    """Tell nobody."""


def read(path: Path, tell: Tell = silent) -> Iterator[Packet]:
    """
    Give the packets of *path*, a pcap or pcapng file of Ethernet frames.

    Raises:
        CaptureError: If it is none, or is truncated.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            packets = dpkt.pcap.UniversalReader(file)
            if packets.datalink() != ETHERNET:
                raise CaptureError(f"{path.name} holds no Ethernet frames")
            for number, (seen, frame) in enumerate(packets):
                yield float(seen), bytes(frame)
                if number % _EVERY == 0:
                    tell(file.tell() / size)
        except (ValueError, struct.error, dpkt.UnpackError) as error:
            raise CaptureError(f"{path.name} is no packet capture, or is truncated: {error}") from error
    tell(1.0)


def write(path: Path, packets: Iterable[Packet]) -> int:
    """Write *packets* to *path* as a pcap file, and return how many there were."""
    count = 0
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, linktype=ETHERNET)
        for seen, frame in packets:
            writer.writepkt(frame, ts=seen)
            count += 1
    return count


def make_capture(path: Path, packets: int = 1_000) -> None:
    """Write a capture to *path*: TCP and UDP between a few hosts, some frames twice, the same each time."""
    write(path, _made(packets))


def _made(packets: int) -> Iterator[Packet]:
    for number in range(packets):
        seen = 1_700_000_000 + number / 1_000
        frame = _frame(number)
        yield seen, frame
        if number % 17 == 0:
            # As a mirrored port of a switch shows it.
            yield seen + 0.000_1, frame


def _frame(number: int) -> bytes:
    payload = f"request {number}: user=alice&secret={number * 7919 % 10_007}".encode() * 6
    port = _PORTS[number % len(_PORTS)]
    if port == _PORTS[0]:
        inside = dpkt.udp.UDP(sport=40_000 + number % 1_000, dport=port, data=payload)
        inside.ulen = len(inside)
        kind = dpkt.ip.IP_PROTO_UDP
    else:
        inside = dpkt.tcp.TCP(sport=40_000 + number % 1_000, dport=port, seq=number, data=payload)
        kind = dpkt.ip.IP_PROTO_TCP
    packet = dpkt.ip.IP(
        src=bytes([192, 168, 1, number % 40 + 1]),
        dst=bytes([203, 0, 113, number % 9 + 1]),
        p=kind,
        id=number % 65_536,
        data=inside,
    )
    packet.len = len(packet)
    host = bytes([2, 0, 0, 0, 0, number % 40 + 1])
    return bytes(dpkt.ethernet.Ethernet(src=host, dst=bytes([2, 0, 0, 0, 1, 1]), data=packet))
