"""A life: devices, a network and a machine that fail at random moments, from one seed; and the oracle.

After each restart, and at the end when everybody has come back and repeated until nothing was open:
  read         a message whose PUBACK (PUBREC) its client read is in the log at least once
  refused      one whose refusal was read is not
  once         each is there once at most, and once more for each time that its client lost its session (`sessions_lost`:
               expired, cleaned: then nothing is owed); at the end exactly once
  subscriber   gets what was published at QoS 2 exactly once, the rest at least once
What else may be, and how often it was (`Life.allowed`), is what the decisions say, and no more:
  late repetition   (ADR 6) stored twice: TCP had acknowledged its PUBACK, `LATEST` others of the session were stored
                    behind it, and `UNREAD_S` had passed
  early record      (ADR 10) of an `interval` or `memory` stream, its acknowledgement read before a crash, and gone with it
  memory twice      (ADR 6) of a `memory` stream, in flight over a restart
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from headwater.core.journal.files.planning import plan
from headwater.core.journal.files.retention import carry_out
from headwater.core.journal.files.settings import FileJournalSettings
from headwater.core.units import KIB, ByteSize
from headwater.edge.broker.doubts import LATEST, UNREAD_S
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.packets import Version
from headwater.edge.rules import retention_rules
from headwater.edge.streams import Durability, StreamSettings, WhenFull
from tests.sim.disk import SimCrash

from .device import LONG_S, Device, Message
from .wire import Ledger, Line, OnceMachine

STREAMS = (
    StreamSettings(name="sync", filters=("sync/#",)),
    StreamSettings(name="drop", filters=("drop/#",), when_full=WhenFull.DROP_OLDEST),
    StreamSettings(name="interval", filters=("interval/#",), durability=Durability.INTERVAL),
    StreamSettings(name="memory", filters=("memory/#",), durability=Durability.MEMORY),
)
SETTINGS = MqttSettings(packet_bytes_max=ByteSize(40 * KIB))
LARGE = 25_000  # above what the log takes of one record, below what a packet may be
ROOMY, CROWDED = 64, 7  # segments
_ROUNDS = 400
# A publish that ends its connection: a wildcard, no UTF-8, no topic, longer than announced.
POISONS = (
    b"\x32\x08\x00\x03a/#\xff\xffx",
    b"\x32\x08\x00\x03a/\xff\xff\xffx",
    b"\x32\x05\x00\x00\xff\xffx",
    b"\x32\x80\x80\x04",
    b"\x36\x06\x00\x01a\x00\x01x",
)


def log_settings(segments: int, pending: int) -> FileJournalSettings:
    return FileJournalSettings(
        segment_bytes=ByteSize(64 * KIB),
        bytes_max=ByteSize(segments * 64 * KIB),
        record_bytes_max=ByteSize(24 * KIB),
        commit_bytes_max=ByteSize(24 * KIB),
        pending_bytes_max=ByteSize(pending),
        spares=1,
    )


class Life:
    def __init__(self, seed: int, *, bursts: float = 0.15) -> None:
        self.rng = rng = random.Random(seed)
        self.is_bursty = rng.random() < bursts
        self.is_crowded = rng.random() < 0.2
        self.machine = OnceMachine(
            seed=seed,
            settings=SETTINGS,
            streams=STREAMS,
            log_settings=log_settings(
                CROWDED if self.is_crowded else ROOMY,
                rng.choice((8 * KIB, 1024 * KIB, 1024 * KIB)),
            ),
        )
        self.ledger = Ledger()
        self.allowed: Counter[str] = Counter()
        self.did: Counter[str] = Counter()
        self.ghosts: list[Line] = []  # given up by their clients, not by the broker
        early = rng.random() < 0.25 and not self.is_crowded
        self.devices = [self._device(number, early=early) for number in range(rng.randint(1, 3))]
        self.subscriber: Device | None = None
        if rng.random() < 0.3:
            self.subscriber = self._device(9, early=False)
            self.subscriber.filter = "sync/#"
            self.subscriber.expiry_s = LONG_S
            self.devices.append(self.subscriber)
        self.events = self._events()
        self._call_every_one_in()

    def _device(self, number: int, *, early: bool) -> Device:
        rng = self.rng
        streams = rng.choice((("sync",), ("sync", "drop")))
        if early:
            streams = rng.choice(
                (("interval",), ("memory",), ("sync", "interval"), ("memory", "sync"))
            )
        window = rng.choice((300, 600, 1000)) if self.is_bursty else rng.choice((1, 2, 5, 20, 60))
        device = Device(
            f"d{number}",
            rng,
            version=rng.choice(tuple(Version)),
            window=window,
            identifiers=rng.choice(("lowest", "lowest", "robin", "counting", "random")),
            streams=streams,
        )
        if device.version is Version.V5 and rng.random() < 0.2:
            device.expiry_s = 40
        return device

    def _call_every_one_in(self) -> None:
        """A first session of each, and the subscription before anything is published."""
        for _ in range(4):
            for device in self.devices:
                self._attend(device)

    # --- events ------------------------------------------------------------------------------------------------

    def _events(self) -> tuple[list[Callable[[], None]], list[float]]:
        rare = 0.2 if self.is_bursty else self.rng.choice((0.3, 1.0, 1.0))
        weighed: dict[Callable[[], None], float] = {
            self.publish: 16,
            self.hear: 14,
            self.begin: 6,
            self.finish: 10,
            self.deliver: 12,
            self.listen: 12,
            self.lose: 5 * rare,
            self.connect: 7,
            self.haunt: 4,
            self.wait: 4,
            self.poison: 3 * rare,
            self.unwelcome: 3 * rare,
            self.disconnect: 0.5 * rare,
            self.clean: 0.5 * rare,
            self.checkpoint: 3,
            self.crash: 3 * rare,
            self.stop: 0.7 * rare,
            self.stall: 0.8 * rare,
            self.retain: 1 if self.is_crowded else 0,
        }
        return list(weighed), list(weighed.values())

    def turn(self) -> None:
        (event,) = self.rng.choices(*self.events)
        self.did[event.__name__] += 1
        event()
        self._look_at_sessions()

    def _look_at_sessions(self) -> None:
        sessions = self.machine.broker.sessions
        for device in self.devices:
            session = sessions.get(device.name)
            device.look_at_session(None if session is None else session.number, self.now)
            device.rude = [line for line in device.rude if not line.closed]

    def lead(self, turns: int) -> None:
        for _ in range(turns):
            try:
                self.turn()
            except SimCrash:
                self._crashed()
        self.settle()

    @property
    def published(self) -> int:
        return sum(len(device.messages) for device in self.devices)

    @property
    def now(self) -> float:
        return self.machine.clock.monotonic()

    def _any(self, *, connected: bool = True, publishes: bool = False) -> Device:
        """One of those that can, if any can; a publisher may be a line that is not open yet."""
        able = [
            each
            for each in self.devices
            if (each.line is not None) == connected
            and not (publishes and (each is self.subscriber or not each.is_open))
        ]
        return self.rng.choice(able or self.devices)

    def publish(self) -> None:
        device, rng = self._any(publishes=True), self.rng
        if device.line is None or not device.is_open or device is self.subscriber:
            return
        count = rng.choice((1, 1, 2, rng.randint(1, 8), device.room))
        for _ in range(min(count, device.room)):
            device.publish()
        self.machine.clock.advance(0.001)  # what arrived when tells one sending from another
        if rng.random() < 0.6:
            device.line.hear(1 << 30)

    def hear(self) -> None:
        line = self._any().line
        if line is not None:
            line.hear(self.rng.choice((1 << 30, self.rng.randint(1, max(1, len(line.up))))))

    def begin(self) -> None:
        self.machine.committer.begin()

    def finish(self) -> None:
        if not self.machine.committer.finish():
            self.machine.committer.sync()

    def deliver(self) -> None:
        line, rng = self._any().line, self.rng
        if line is not None:
            waiting = len(line.down) - line.arrived
            size = rng.choice((waiting, waiting, rng.randint(0, 60), rng.randint(0, waiting)))
            line.deliver(size, known=rng.random() < 0.8)

    def listen(self) -> None:
        device = self._any()
        device.listen()
        line = device.line
        if line is not None and line.closed and self.rng.random() < 0.7:
            device.give_up(self.now)

    def lose(self) -> None:
        """The client may have read what had come; the broker may not know for long."""
        device, rng = self._any(), self.rng
        if device.line is None:
            return
        if rng.random() < 0.3:
            device.listen()
        line = device.give_up(self.now)
        if rng.random() < 0.4:
            line.lose()
        else:
            self.ghosts.append(line)

    def connect(self) -> None:
        device, rng = self._any(connected=False), self.rng
        if device.line is None:
            line = device.connect(self.machine, tells=rng.random() < 0.8)
            if rng.random() < 0.7:
                line.hear(1 << 30)

    def haunt(self) -> None:
        """What a client sent on a connection that it has given up is still heard, or not."""
        if not self.ghosts:
            return
        rng = self.rng
        ghost = rng.choice(self.ghosts)
        if rng.random() < 0.6:
            ghost.hear(rng.choice((1 << 30, rng.randint(1, max(1, len(ghost.up))))))
        else:
            ghost.lose(orderly=not ghost.up and rng.random() < 0.5)
        self.ghosts = [each for each in self.ghosts if not each.closed]

    def wait(self) -> None:
        self.machine.wait(self.rng.choice((0.5, 0.5, 2.5, 12.0, 25.0)))

    def poison(self) -> None:
        """Behind what is under way already."""
        device = self._any(publishes=True)
        if device is not self.subscriber and device.is_open:
            self.publish_some(device)
            device.poison(self.rng.choice(POISONS))
            if device.line is not None and self.rng.random() < 0.7:
                device.line.hear(1 << 30)

    def publish_some(self, device: Device) -> None:
        for _ in range(min(device.room, self.rng.randint(0, 5))):
            device.publish()

    def unwelcome(self) -> None:
        """Refused by itself in MQTT 5; in 3.1.1 that ends the connection, and nothing but giving it up helps."""
        device, rng = self._any(publishes=True), self.rng
        if device is self.subscriber or not device.is_open or not device.room:
            return
        self.publish_some(device)
        if not device.room:
            return
        if rng.random() < 0.5:
            device.publish(topic="$SYS/x", qos=rng.choice((1, 2)))
        else:
            device.publish(size=LARGE)
        if device.version is Version.V311:
            device.flights.popitem()
        self.publish_some(device)
        if device.line is not None and rng.random() < 0.8:
            device.line.hear(1 << 30)

    def disconnect(self) -> None:
        device, rng = self._any(), self.rng
        if device.line is None or not device.is_open or device is self.subscriber:
            return
        device.say_goodbye(rng.choice((None, None, 0, 60)))
        self.ghosts.append(device.give_up(self.now))

    def clean(self) -> None:
        device = self._any()
        if device is not self.subscriber:
            device.wants_clean = True

    def stall(self) -> None:
        committer = self.machine.committer
        committer.stalled = None if committer.stalled else "the disk is tired"
        self.machine.broker.tick()

    def retain(self) -> None:
        """Before it, the oracle reads what may be gone behind it."""
        machine, log = self.machine, self.machine.log
        if machine.committer.is_under_way:
            return
        machine.sync()
        self.ledger.catch_up(machine)
        ends = {tp: log.bounds(tp).end for tp in log.partitions()}
        sent = self.rng.choice((ends, {}))
        rules = retention_rules(machine.streams)
        carry_out(log, plan(log, machine.clock.wall_ms(), rules=rules, sent=sent))
        log.update_full()

    def checkpoint(self) -> None:
        """While it is written the broker goes on, or the power does."""
        machine, rng = self.machine, self.rng
        chance = rng.random()
        if chance < 0.15:
            machine.store.crash = rng.random() < 0.5
        elif chance < 0.3 and not self.is_crowded:
            # in a log so small its pins would be let go, and it is said that a crash then loses state
            machine.store.refusing = True
        elif chance < 0.7:
            machine.store.meanwhile = self._meanwhile
        machine.checkpoint()
        machine.store.refusing = False
        machine.store.crash, machine.store.meanwhile = None, None

    def _meanwhile(self) -> None:
        for event in self.rng.choices(
            (
                self.publish,
                self.hear,
                self.begin,
                self.finish,
                self.deliver,
                self.lose,
                self.connect,
            ),
            k=5,
        ):
            event()

    # --- ends --------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Now, or at some call of the disk soon."""
        machine, rng = self.machine, self.rng
        if rng.random() < 0.5:
            machine.disk.crash_at = machine.disk.calls + rng.randint(1, 6)
            self.publish()
            machine.sync()
            machine.checkpoint()
        raise SimCrash

    def _crashed(self) -> None:
        rng = self.rng
        self._everybody_loses()
        for device in self.devices:
            for message in device.messages:
                if message.key[0].startswith(("interval", "memory")) and message.read:
                    message.exposed = True
        if rng.random() < 0.5:
            self.machine.power_cut(keep=rng.random(), away_s=rng.choice((1.0, 30.0)))
        else:
            self.machine.kill()
        self._restarted()

    def stop(self) -> None:
        self.machine.committer.stalled = None
        self.machine.orderly_stop()
        self._everybody_loses()
        self._restarted()

    def _everybody_loses(self) -> None:
        self.ghosts.clear()
        for device in self.devices:
            if device.line is not None:
                if self.rng.random() < 0.3:
                    device.listen()
                device.give_up(self.now)
        self.machine.store.crash, self.machine.store.meanwhile = None, None
        self.machine.store.refusing = False

    def _restarted(self) -> None:
        for device in self.devices:
            for message in device.flights.values():
                message.restarts += message.key[0].startswith("memory") and message.qos == 1
        assert self.machine.restored.losses == [], self.machine.restored.losses
        self.check(at_the_end=False)

    def _attend(self, device: Device) -> None:
        """All that goes well."""
        line = device.line
        if line is not None and line.closed:
            line.deliver(1 << 30, known=True)
            device.listen()
            device.give_up(self.now)
        line = device.line or device.connect(self.machine, tells=True)
        while line.hear(1 << 30):
            self._look_at_sessions()
        self.machine.sync()
        self._look_at_sessions()
        line.deliver(1 << 30, known=True)
        device.listen()

    def settle(self) -> None:
        machine = self.machine
        machine.committer.stalled = None
        for _ in range(_ROUNDS):
            machine.wait(0.5)
            self._look_at_sessions()
            for device in self.devices:
                self._attend(device)
            if self.is_crowded:  # as the daemon would, if not as often
                machine.checkpoint()
                self.retain()
            busy = any(device.flights for device in self.devices)
            if not busy and not any(line.up for line in self._lines()):
                break
        else:
            raise AssertionError("it never came to rest")
        machine.log.spill()
        machine.sync()
        self.check(at_the_end=True)

    def _lines(self) -> list[Line]:
        return [device.line for device in self.devices if device.line is not None]

    # --- the oracle --------------------------------------------------------------------------------------------

    def check(self, *, at_the_end: bool) -> None:
        self.ledger.catch_up(self.machine)
        found = self.ledger.found
        for device in self.devices:
            abandoned = set() if not at_the_end else {id(m) for m in device.flights.values()}
            assert not abandoned
            for message in device.messages:
                self._judge(message, found.get(message.key, []), at_the_end=at_the_end)
        if at_the_end and self.subscriber is not None and not self.is_crowded:
            self._judge_deliveries(self.subscriber)

    def _judge(self, message: Message, found: list[int], *, at_the_end: bool) -> None:
        count, most = len(found), 1 + message.sessions_lost
        if message.read and not count:
            assert message.exposed, f"{message.key}: acknowledged, and not in the log"
            self.allowed["early record"] += at_the_end
        if message.refused:
            assert count < most, f"{message.key}: refused, and in the log"
        if most < count <= most + message.restarts:
            self.allowed["memory twice"] += at_the_end
        elif count > most:
            assert count == most + 1, f"{message.key}: {count} times in the log"
            assert self._is_late(message, found), f"{message.key}: {count} times in the log"
            self.allowed["late repetition"] += at_the_end

    def _is_late(self, message: Message, found: list[int]) -> bool:
        first, last = found[0], found[-1]
        if message.qos != 1 or not message.delivered or last - first < UNREAD_S * 1000:
            return False
        behind = 0
        sent = message.device.messages
        for other in sent[sent.index(message) + 1 :]:
            times = self.ledger.found.get(other.key, ())
            behind += other.qos == 1 and any(first <= at < last for at in times)
        return behind >= LATEST

    def _judge_deliveries(self, subscriber: Device) -> None:
        for key, times in self.ledger.found.items():
            if not key[0].startswith("sync/"):
                continue
            got = subscriber.got[key]
            if key in self.ledger.exactly:
                assert got == len(times), f"{key} was delivered {got} times, stored {len(times)}"
            else:
                assert got >= 1, f"{key} was never delivered"
