"""docs/durability.md, from what was counted."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from .crashes import Fate, Model
from .replay import Result

_PEERS_TITLE = "## The same for others"
_REPEAT_TITLE = "## Again"
_TWINS_TITLE = "## Who judges the judge"
MODELS = {
    Model.BLOCKS: "4 KiB blocks are written whole or not at all (flash cards, 4Kn disks)",
    Model.SECTORS: "512-byte sectors; ext4's journal and superblock by 4 KiB blocks, as ext4 itself assumes",
    Model.SECTORS_ALL: "512-byte sectors throughout, ext4's own journal too; where ext4 then refuses to mount, "
    "`e2fsck -fy` runs first, as at a boot",
}


@dataclass
class Run:
    """One recording and what became of its crash states."""

    name: str
    says: str
    result: Result
    kills: int
    operations: int = 0
    flushes: int = 0
    bytes: int = 0
    acknowledged: int = 0
    gaps: int = 0
    seconds: float = 0.0


@dataclass
class PeerRun:
    name: str
    setting: str
    seconds: float
    acknowledged: int
    states: int
    losing: int
    lost_worst: int
    lost_total: int
    promises: int
    not_started: int


@dataclass
class Twin:
    """A broken twin of the daemon before the judges; `accused`: how often in the right words."""

    says: str
    words: Sequence[str]
    states: int
    resumed: int
    accused: int


def page(
    runs: Sequence[Run],
    twins: Sequence[Twin],
    peers: Sequence[PeerRun],
    unmeasured: Sequence[str] = (),
    *,
    peer_versions: str,
    seed: int,
) -> str:
    parts = [_head(runs), _headwater(runs), _claims(runs), _twins(twins)]
    parts += [
        _peers(peers, peer_versions, unmeasured),
        _repeat(seed, sum(r.result.states for r in runs)),
    ]
    return "\n".join([*chain.from_iterable(parts), ""])


# the claim, what is counted, how accusations against it begin
CLAIMS = (
    (
        "a QoS 1 message whose PUBACK was read is there exactly once",
        "QoS 1",
        ("lost", "twice", "changed"),
    ),
    ("a QoS 2 message whose PUBREC was read is there exactly once", "QoS 2", ()),
    ("of these, sent again as DUP, before the cut or after it: stored once", "repeated", ()),
    ("a record lies where the receipt in its PUBACK or PUBREC says", "receipts", ("receipt",)),
    (
        "acknowledged early (`interval`, `memory`): there",
        "early, there",
        ("offset reused", "invented"),
    ),
    (
        "… or gone, its offset declared `volatile` and never another's",
        "early, declared",
        ("volatile", "hole"),
    ),
    (
        "a session whose CONNACK was read is present when its client returns",
        "sessions",
        ("forgotten",),
    ),
    (
        "a publish sent again after the cut, on that session, is acknowledged",
        "repeats",
        ("unanswered",),
    ),
    ("a topic shows what was retained last", "retained topics", ("retained",)),
    (
        "a subscription whose SUBACK was read goes on; one after its UNSUBACK does not",
        "subscriptions",
        ("unasked",),
    ),
    (
        "what was acknowledged for a subscriber reaches it",
        "promised to subscribers",
        ("undelivered",),
    ),
    (
        "at QoS 2 it does so once, over both lives",
        "deliveries at QoS 2",
        ("delivered twice", "identifier"),
    ),
    (
        "a will that was due, before the cut or after it, is in the log once",
        "wills",
        ("unsaid",),
    ),
    ("… and reaches its subscribers", "wills heard", ()),
    (
        "a will whose client came back in time, or left with DISCONNECT, is never said",
        "wills withdrawn",
        ("withdrawn",),
    ),
    (
        "what was acknowledged for a shared subscription reaches a member",
        "shared",
        ("unshared",),
    ),
    ("at QoS 2 one member, over both lives", "shared at QoS 2", ("shared twice",)),
    (
        "a message that is over is not begun with a subscriber that was away",
        "expired",
        ("expired",),
    ),
    ("a message that is not says what is left of its life", "expiries", ("expiry",)),
    (
        "a message lies and comes by the topic that its alias stood for",
        "aliased",
        ("misplaced", "misdirected"),
    ),
    (
        "a message of another broker that was acknowledged to it is there exactly once",
        "bridged",
        (),
    ),
)


def accusation(failure: str) -> str:
    """How it begins, after the name of the recording and of the state."""
    rest = failure.partition("): ")[2] if " State(" in failure else failure.partition(": ")[2]
    return rest.partition(":")[0]


def _claims(runs: Sequence[Run]) -> Iterator[str]:
    """By claim: only recordings with lasting sessions count them all."""
    counts: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for run in runs:
        counts += run.result.claims
        words.update(accusation(each) for each in run.result.failures)
    resumed = sum(run.result.resumed for run in runs)
    yield ("\n| claim | looked for | violations |\n|---|--:|--:|")
    for says, name, accusations in CLAIMS:
        yield f"| {says} | {counts[name]:,} | {sum(words[word] for word in accusations)} |"
    yield (
        f"\nThose about clients that come back are from {resumed:,} states in which the daemon was started and all clients "
        "of that world returned: publishers sent again what they had no answer to, subscribers took what waited.\n"
    )


def _twins(twins: Sequence[Twin]) -> Iterator[str]:
    if not twins:
        return
    yield f"{_TWINS_TITLE}\n"
    yield (
        "Broken twins of the daemon, each of which breaks one promise (`tests/powercut/defects.py`), recorded and cut in "
        "the same way. Each must be condemned, in the words that fit; after ten of these no more of its states are tried.\n"
    )
    yield "| twin | crash states | with clients that return | accusation | how often |"
    yield "|---|--:|--:|---|--:|"
    for twin in twins:
        words = ", ".join(f"*{word}*" for word in twin.words)
        yield f"| {twin.says} | {twin.states} | {twin.resumed} | {words} | {twin.accused:,} |"
    yield ""


def _head(runs: Sequence[Run]) -> Iterator[str]:
    states = sum(run.result.states for run in runs)
    promises = sum(run.result.promises for run in runs)
    failures = [each for run in runs for each in run.result.failures]
    yield "# Durability: what power cuts leave\n"
    yield "Written by `python -m tests.powercut`; do not edit.\n"
    verdict = (
        "nothing acknowledged was lost, doubled, changed or moved, and every start-up succeeded"
        if not failures
        else f"**{len(failures)} violations**, listed below"
    )
    yield (
        f"**{states:,} simulated power cuts under a real ext4 and the real daemon, {promises:,} acknowledged messages "
        f"looked for: {verdict}.**\n"
    )
    for each in failures[:50]:
        yield f"- {each}"
    yield from _METHOD.splitlines()


_METHOD = """## How

A file served by FUSE lies under a loop device, which carries ext4, on which `headwater edge` runs. The file writes down
every block write and every flush in their order. Eight MQTT publishers outside note at each PUBACK how many device
operations there had been: a cut there or later must keep that message. The daemon is killed (SIGKILL) and restarted
on the way, so that power cuts during recovery are among the states; and some crash states are lived on from, recorded
again, and cut a second time.

A crash state is that record cut anywhere: just before a flush, just after one, or at random in between. What was flushed is
on the medium; of what was not, each sector is there or is not, by lot (one by one, write by write, all, none, or in order
with the last one torn). The state is mounted, so ext4 replays its journal, and opened by the journal's own recovery.
Then, for each state:

1. every message acknowledged before the cut is there exactly once, byte for byte, at the offset it has in all other states;
2. from log start to log end every offset is there, or is declared lost, and no declared loss holds an acknowledged message;
3. what retention took away was its to take: a bounded stream keeps its bytes, a full log declared what it dropped first;
4. start-up does not refuse; what is appended next is kept, recovering again shows the same, `log verify` finds it whole.

Some states are opened by the real daemon instead, take one more publish, stop on SIGTERM, and are verified by
`headwater log verify`. Of the recordings with lasting clients more of them are, and there the clients of that world come
back: publishers on their sessions, which send again as DUP, under the same packet identifier, what had no PUBACK (PUBREC)
before the cut; somebody who reads what is retained; subscribers that were away, or came and went. What each of them knows
at the cut is what it had read by then, not a byte more: a PUBACK that may have lain unread in its socket is neither counted
as a promise nor answered with a repetition. What is then owed is the table of claims.

Of the recording *company* the members of shared subscriptions come back all at once, wills fall due, a broker upstream sends
again what it has not seen acknowledged (`tests/powercut/company.py` says what is owed, and by which answer it was
promised). Of *crowded* subscribers come back whose messages were in part retired: what the log still holds is owed to them.
For these states the daemon is forked from a process that has imported it (`tests/powercut/warm.py`); recorded is the
daemon as it is started in earnest.

The state beside the log (SQLite) is on the same device and cut with it; two orderly restarts in that recording write it.
On the simulated disk SQLite cannot run: there (`tests/core/journal_files`, thousands of lives and every disk call of
scripted ones) the log itself is tried, with its notes, reservations, memory streams, thinning and end marks.

Not modelled: devices that lie about flushes, and flash translation layers that lose blocks nobody was writing. Of two
requests that the kernel has in flight at once, one a flush, the model takes the order in which the device did them.
A run over a device whose flushes do nothing must be condemned, and is (`tests/powercut/test_powercut.py`); so must the
broken twins below.
"""


def _headwater(runs: Sequence[Run]) -> Iterator[str]:
    yield "\n## Headwater\n"
    yield "| recording | device operations | flushes | MiB written | acknowledged | SIGKILLs | segments | gap records |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for run in runs:
        yield (
            f"| {run.name} | {run.operations:,} | {run.flushes:,} | {run.bytes / 2**20:.1f} | {run.acknowledged:,} "
            f"| {run.kills} | {run.result.rolls:,} | {run.gaps} |"
        )
    yield ""
    for run in runs:
        yield f"- *{run.name}*: {run.says}."
    yield (
        "\n| crash states of | states | with writes pending | acknowledged messages looked for | torn commit cut off "
        "| after retention | repaired by e2fsck first | opened by the daemon | damage declared | violations |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for run in runs:
        r = run.result
        yield (
            f"| {run.name} | {r.states:,} | {r.pending:,} | {r.promises:,} | {r.torn:,} | {r.retired:,} | {r.repaired:,} "
            f"| {r.daemons} | {r.declared} | {len(r.failures)} |"
        )
    yield "\n| device model | states | what it says |\n|---|--:|---|"
    for model, says in MODELS.items():
        yield f"| `{model}` | {sum(run.result.models[model] for run in runs):,} | {says} |"
    yield "\n| fate of what was not flushed | states |\n|---|--:|"
    for fate in Fate:
        yield f"| {fate} | {sum(run.result.fates[fate] for run in runs):,} |"
    yield ""


def _peers(
    peers: Sequence[PeerRun], versions: str, unmeasured: Sequence[str] = ()
) -> Iterator[str]:
    if not peers and not unmeasured:
        return
    yield f"{_PEERS_TITLE}: {versions}\n"
    yield (
        "The same device, cuts, models and publishers (QoS 1), without SIGKILLs on the way. A subscriber with a lasting "
        "session subscribed before the first publish and went away; after the cut the broker is started on what is left, "
        "the subscriber returns, and what was acknowledged before the cut must reach it. Losing what a setting does not "
        "promise to keep is no defect of these brokers; the table says what their PUBACK means. Where all is lost, that "
        "is all since the broker or the kernel last wrote out by itself, in a recording of so many seconds.\n"
    )
    yield (
        "| broker | setting | seconds | acknowledged | crash states | of them losing acknowledged messages "
        "| messages looked for | lost | lost at worst | did not start |"
    )
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for peer in peers:
        yield (
            f"| {peer.name} | {peer.setting} | {peer.seconds:.0f} | {peer.acknowledged:,} | {peer.states} "
            f"| {peer.losing} | {peer.promises:,} | {peer.lost_total:,} | {peer.lost_worst:,} | {peer.not_started} |"
        )
    yield ""
    for each in unmeasured:
        yield f"Not measured in this run, because it did not answer in time, twice: {each}.\n"


def with_twins(text: str, twins: Sequence[Twin]) -> str:
    """A page whose broken twins were tried anew."""
    before, _, rest = text.partition(_TWINS_TITLE)
    title = _PEERS_TITLE if _PEERS_TITLE in rest else _REPEAT_TITLE
    return before + "\n".join([*_twins(twins), title]) + rest.partition(title)[2]


def with_peers(
    text: str, peers: Sequence[PeerRun], versions: str, unmeasured: Sequence[str] = ()
) -> str:
    """A page whose comparison was measured anew."""
    before, _, rest = text.partition(_PEERS_TITLE)
    _, _, after = rest.partition(_REPEAT_TITLE)
    return before + "\n".join([*_peers(peers, versions, unmeasured), _REPEAT_TITLE]) + after


def _repeat(seed: int, states: int) -> Iterator[str]:
    kernel = platform.release().partition("-")[0]
    yield f"{_REPEAT_TITLE}\n"
    yield "```"
    yield "make durability                                  # this page (root, /dev/fuse, loop devices, libfuse3, e2fsprogs)"
    yield "python -m tests.powercut --scenario sessions --resume-every 2 --no-page"
    yield "python -m tests.powercut --twins-only            # the broken twins anew"
    yield "python -m tests.powercut --peers-only            # Mosquitto and NATS anew"
    yield "python -m tests.powercut --states 500 --no-page --model 512-all"
    yield "python -m pytest tests/powercut                  # a minute of it, as in `make test`"
    yield "```\n"
    yield (
        f"This page: {states:,} states, "
        f"Linux {kernel}, {platform.machine()}, Python {sys.version_info.major}.{sys.version_info.minor}, "
        f"`--seed {seed}`. The seed repeats the lots, not the scheduler: a recording is never the same twice, so each run "
        "explores other states. A violation names its state (cut, model, fate, seed) and its recording is kept to be "
        "replayed with `--replay`."
    )
