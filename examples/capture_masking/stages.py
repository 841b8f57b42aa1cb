"""
The stages: each reads one capture and writes another; none knows where these are, or of any scope.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from captures import Packet, Tell, dpkt, read, write


__all__ = ["STAGES", "Stage", "careless"]

_WINDOW = 8
_KEPT_BYTES = 32


@attrs.frozen
class Stage:
    """One step: its name, and what does it, called as ``run(source, target, tell)``."""

    name: str
    run: Callable[[Path, Path, Tell], int]


def _drop_duplicates(source: Path, target: Path, tell: Tell) -> int:
    """Leave out frames that were seen just before, as a mirrored port shows them twice."""

    def different() -> Iterator[Packet]:
        recent: deque[bytes] = deque(maxlen=_WINDOW)
        for seen, frame in read(source, tell):
            if frame not in recent:
                yield seen, frame
            recent.append(frame)

    return write(target, different())


def _mask_addresses(source: Path, target: Path, tell: Tell) -> int:
    """Put other addresses in the place of the real ones, the same for the same host within a run."""
    key = hashlib.sha256(str(source.stat().st_size).encode()).digest()
    return write(target, ((seen, _masked(frame, key)) for seen, frame in read(source, tell)))


def _masked(frame: bytes, key: bytes) -> bytes:
    ethernet = dpkt.ethernet.Ethernet(frame)
    ethernet.src, ethernet.dst = (_other(key, address) for address in (ethernet.src, ethernet.dst))
    packet = ethernet.data
    if isinstance(packet, dpkt.ip.IP):
        packet.src, packet.dst = (_other(key, address) for address in (packet.src, packet.dst))
        _forget_sums(packet)
    elif isinstance(packet, dpkt.ip6.IP6):
        packet.src, packet.dst = (_other(key, address) for address in (packet.src, packet.dst))
    return bytes(ethernet)


def _other(key: bytes, address: bytes) -> bytes:
    """Return an address in place of *address*: private for IPv4, locally administered for Ethernet."""
    first = {4: b"\x0a", 6: b"\x02", 16: b"\xfd"}[len(address)]
    return first + hmac.digest(key, address, "sha256")[: len(address) - 1]


def _forget_sums(packet: Any) -> None:
    # dpkt works out the sums that are 0 when it packs.
    packet.sum = 0
    if isinstance(packet.data, dpkt.tcp.TCP | dpkt.udp.UDP):
        packet.data.sum = 0


def _cut_payloads(source: Path, target: Path, tell: Tell) -> int:
    """Keep the headers and the first bytes of what is in them."""

    def cut() -> Iterator[Packet]:
        for seen, frame in read(source, tell):
            ethernet = dpkt.ethernet.Ethernet(frame)
            packet = ethernet.data
            if isinstance(packet, dpkt.ip.IP) and isinstance(packet.data, dpkt.tcp.TCP | dpkt.udp.UDP):
                packet.data.data = bytes(packet.data.data)[:_KEPT_BYTES]
                if isinstance(packet.data, dpkt.udp.UDP):
                    packet.data.ulen = len(packet.data)
                packet.len = len(packet)
                _forget_sums(packet)
            yield seen, bytes(ethernet)

    return write(target, cut())


def careless(source: Path, target: Path, tell: Tell) -> int:
    """Do what no stage may: wipe the addresses in the input itself, then copy that."""
    with source.open("r+b") as file:
        file.seek(40)
        file.write(bytes(12))
    return write(target, read(source, tell))


STAGES = (
    Stage("dedup", _drop_duplicates),
    Stage("mask", _mask_addresses),
    Stage("trim", _cut_payloads),
)
