"""A receiver that takes its time: what do UDP and TCP do with what comes faster than it is read?

One sender offers the same numbered messages at several paces to one receiver that does a fixed
amount of waiting a message. Both protocols get the same small receive buffer. Everything is
counted: what was sent, what arrived, how often the sender found the kernel's buffer full.

The slowest pace sends fewer messages than the buffer holds, so that even a receiver that the
machine does not let run in time loses none; the fastest does not pace at all.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal

from month1_caching_gateway.sockets import (
    LengthPrefixed,
    Tally,
    encode,
    encode_end,
    open_receiver,
    parse,
    prefixed,
)
from scalelab.errors import OutcomeUnknown
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result

HOST = "127.0.0.1"
SIZE = 200
BUFFER = 16_384
"""Asked of the kernel for receiving; Linux doubles it and counts its bookkeeping in."""
WORK_S = 0.001
"""What the receiver does with a message: it can take 1,000 a second at best."""
TRICKLE = 10
"""Messages of the slowest pace: a fifth of what the buffer holds at the least."""
PATIENCE_S = 60.0
_END_EVERY_S = 0.02

Protocol = Literal["udp", "tcp"]
Sender = Callable[[int], object]
"""Sends the message of a number; raises BlockingIOError where there is no room for it."""
Work = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """factor: offered load over what the receiver can take; None sends without any pause."""

    factor: float | None
    messages: int


@dataclass(frozen=True, slots=True)
class Seen:
    """One pace over one protocol. full: how often the sender found no room. offered_per_s: while
    it sent; arrived: different messages."""

    sent: int
    arrived: int
    bytes_sent: int
    bytes_arrived: int
    full: int
    sending_s: float

    @property
    def lost(self) -> int:
        return self.sent - self.arrived


def paces(*, quick: bool) -> tuple[Pace, ...]:
    """From a trickle to no pause at all."""
    size = 1500 if quick else 6000
    factors = (0.5, 2.0, 4.0)
    return (
        Pace(0.05, TRICKLE),
        *(Pace(factor, round(size * min(factor, 2.0) / 2)) for factor in factors),
        Pace(None, 2 * size),
    )


def run(lab: Lab) -> Result:
    """Offer every pace to both protocols, one after the other; no server beside our own sockets."""
    chosen = paces(quick=lab.quick)
    seen: dict[Protocol, list[Seen]] = {"udp": [], "tcp": []}
    for number, pace in enumerate(chosen):
        for protocol, of_one in seen.items():
            lab.note(f"{protocol}: {pace.messages} messages at {_called(pace)}")
            of_one.append(_udp(pace, number + 1) if protocol == "udp" else _tcp(pace))
    # Full speed is what UDP's sender reached: nothing slows it.
    fastest = seen["udp"][-1].sent / max(seen["udp"][-1].sending_s, 1e-6)
    offered = [fastest if pace.factor is None else pace.factor / WORK_S for pace in chosen]
    return Result(
        arms=tuple(_arm(protocol, offered, of_one) for protocol, of_one in seen.items()),
        shape=_claims(seen),
        plot=Plot(Axis("offered load (messages/s)", log=True), Axis("lost (% of sent)")),
        notes=(
            f"Messages of {SIZE} bytes; a receive buffer of {BUFFER} bytes asked, twice granted.",
            f"The receiver waits {1000 * WORK_S:g} ms a message, at least: it takes at most "
            f"{1 / WORK_S:.0f} a second, fewer on a busy machine.",
            "Losses on loopback happen in the receiver's buffer alone; a network adds its own.",
        ),
    )


def _udp(pace: Pace, run_number: int) -> Seen:
    tally = Tally(run_number)
    arrived_bytes = 0
    ended = threading.Event()

    def receive() -> None:
        nonlocal arrived_bytes
        with selectors.DefaultSelector() as ready:
            ready.register(receiver, selectors.EVENT_READ)
            while not ended.is_set():
                ready.select(0.05)
                with contextlib.suppress(BlockingIOError):
                    data = receiver.recv(2048)
                    number = parse(data).number
                    if number is None:
                        ended.set()
                    elif tally.note(number):
                        arrived_bytes += len(data)
                        time.sleep(WORK_S)

    with (
        open_receiver((HOST, 0), BUFFER) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.connect(receiver.getsockname())
        sender.setblocking(False)
        with _thread(receive):
            full, sending_s = _send_all(
                pace, lambda number: sender.send(encode(run_number, number, SIZE))
            )
            # The end may be lost like any other datagram, so it is said until it is heard.
            give_up_s = time.monotonic() + PATIENCE_S
            while not ended.wait(_END_EVERY_S):
                if time.monotonic() > give_up_s:
                    ended.set()
                    raise OutcomeUnknown("the receiver never heard the end of the run")
                with contextlib.suppress(BlockingIOError):
                    sender.send(encode_end(run_number, pace.messages))
    count = tally.count(pace.messages)
    sent_bytes = pace.messages * SIZE
    return Seen(count.sent, count.received, sent_bytes, arrived_bytes, full, sending_s)


def _tcp(pace: Pace) -> Seen:
    tally = Tally(1)
    arrived_bytes = 0

    def receive() -> None:
        nonlocal arrived_bytes
        decoder = LengthPrefixed(2 * SIZE)
        with accepted.accept()[0] as connection:
            while piece := connection.recv(SIZE):
                decoder.feed(piece)
                while (frame := decoder.next_frame()) is not None:
                    number = parse(frame).number
                    if number is not None and tally.note(number):
                        arrived_bytes += len(frame)
                        time.sleep(WORK_S)
        decoder.finish()

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as accepted:
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        accepted.bind((HOST, 0))
        accepted.listen(1)
        with _thread(receive), socket.create_connection(accepted.getsockname()) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sender.setblocking(False)
            full, sending_s = _send_all(pace, _Stream(sender).send)
    count = tally.count(pace.messages)
    sent_bytes = pace.messages * SIZE
    return Seen(count.sent, count.received, sent_bytes, arrived_bytes, full, sending_s)


class _Stream:
    """Sends numbered frames over a non-blocking connection, each whole before the next."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._number = -1
        self._left = b""

    def send(self, number: int) -> None:
        """Raises BlockingIOError until the frame is taken whole; call again with its number."""
        if number != self._number:
            self._number, self._left = number, prefixed(encode(1, number, SIZE))
        while self._left:
            self._left = self._left[self._connection.send(self._left) :]


def _send_all(pace: Pace, send: Sender) -> tuple[int, float]:
    """Send every message in its turn; a full buffer is counted once a message, then waited for."""
    full = 0
    began_s = time.monotonic()
    for number in range(pace.messages):
        if pace.factor is not None:
            due_s = began_s + number * WORK_S / pace.factor
            time.sleep(max(0.0, due_s - time.monotonic()))
        waited = False
        while True:
            try:
                send(number)
                break
            except BlockingIOError:
                full += not waited
                waited = True
                time.sleep(WORK_S)
    return full, time.monotonic() - began_s


@contextlib.contextmanager
def _thread(work: Work) -> Generator[None]:
    """Run `work` beside the body; both must end, and its error is raised here."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=guarded, name="receiver")
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failed:
        raise failed[0]


def _called(pace: Pace) -> str:
    return "full speed" if pace.factor is None else f"{pace.factor:g} times the receiver's"


def _arm(protocol: Protocol, offered: list[float], seen: list[Seen]) -> Arm:
    full_speed = seen[-1]
    return Arm(
        protocol.upper(),
        "control" if protocol == "tcp" else "treatment",
        {
            "sent": sum(one.sent for one in seen),
            "lost": sum(one.lost for one in seen),
            "lost_at_a_trickle": seen[0].lost,
            "lost_at_full_speed": full_speed.lost,
            "sender_found_no_room": sum(one.full for one in seen),
            "full_speed_per_s": round(full_speed.sent / max(full_speed.sending_s, 1e-6)),
        },
        tuple(
            (round(load, 1), round(100 * one.lost / one.sent, 2))
            for load, one in zip(offered, seen, strict=True)
        ),
    )


def _claims(seen: dict[Protocol, list[Seen]]) -> tuple[Claim, ...]:
    udp, tcp = seen["udp"], seen["tcp"]
    return (
        Claim(
            "UDP loses at full speed, and nothing at a trickle.",
            udp[-1].lost > 0 and udp[0].lost == 0,
            f"lost {udp[0].lost} of {udp[0].sent} at a trickle, "
            f"{udp[-1].lost} of {udp[-1].sent} at full speed",
        ),
        Claim(
            "TCP loses nothing at any pace: as many bytes arrive as were sent.",
            all(one.lost == 0 and one.bytes_arrived == one.bytes_sent for one in tcp),
            f"lost {[one.lost for one in tcp]} of {[one.sent for one in tcp]}",
        ),
        Claim(
            "TCP makes the sender wait where UDP drops: no room for TCP, always room for UDP.",
            tcp[-1].full > 0 and tcp[0].full == 0 and all(one.full == 0 for one in udp),
            f"no room at full speed: TCP {tcp[-1].full} times, UDP {udp[-1].full} times",
        ),
        Claim(
            "So at full speed TCP takes the receiver's pace: it sends at a fifth of UDP's or less.",
            tcp[-1].sending_s >= 5 * udp[-1].sending_s,
            f"the same messages: {tcp[-1].sending_s:.2f} s by TCP, {udp[-1].sending_s:.2f} s by "
            f"UDP",
        ),
        Claim(
            "Every UDP message is accounted for: what arrived and what was lost is what was sent.",
            all(one.bytes_arrived == one.arrived * SIZE for one in udp),
            f"bytes arrived: {[one.bytes_arrived for one in udp]}",
        ),
    )


EXPERIMENT = Experiment(
    slug="sockets",
    question="What happens to messages that come faster than their receiver reads them?",
    varied="the protocol (UDP, TCP) and the offered load, from a trickle to full speed",
    fixed="messages, receiver (1 ms of waiting each), receive buffer, one machine",
    run=run,
    topics=("P1.1",),
)
