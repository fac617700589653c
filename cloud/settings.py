"""Settings of a cloud node: `[cloud]` in the file, HEADWATER_CLOUD__* in the environment, flags of `headwater cloud`."""

from __future__ import annotations

import msgspec

from ..core.journal.objects import ObjectJournalSettings
from ..core.units import Duration
from .broker.settings import BrokerSettings
from .broker.tls import ServerTlsSettings
from .groups.settings import GroupSettings


class CloudSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[cloud]"""

    node: str = ""
    """What this node is called; empty is the machine's name. Stable, since clients know the node by a number made of it."""

    store: str = "./headwater-data/store"
    """Where the log lives: a directory (one node) or s3://bucket/prefix. Everything that must survive is there."""

    kafka: str = "127.0.0.1:9092"
    """Where to listen for Kafka clients. Loopback until somebody decides who may reach it: nobody is authenticated."""

    advertise: str = ""
    """The address that clients are told to connect to; empty is the one listened on. Needed behind NAT and for 0.0.0.0."""

    kafka_tls: str = ""
    """Where to listen for Kafka clients over TLS; empty is nowhere. A second door: the one above may stay on loopback, for
    the sink beside this node."""

    advertise_tls: str = ""
    """The address that clients of `kafka_tls` are told to connect to; empty is the one listened on."""

    tls: ServerTlsSettings = ServerTlsSettings()
    """The node's certificate, and whose clients are let in."""

    lake: str = "./headwater-data/lake"
    """Where the sink writes its tables: a directory or s3://bucket/prefix."""

    sink: bool = True
    """Run the sink as a child process. It speaks the Kafka protocol to this node, so it may as well run elsewhere."""

    http: str = "127.0.0.1:9644"
    """Where /healthz, /readyz and /metrics are served; empty is nowhere."""

    shards: int = 1
    """Logs of the cluster, fixed when its first node meets an empty store. One carries about 80 MB/s."""

    sink_restart_max: Duration = Duration(30)
    """The longest pause before a sink that ended is started again."""

    journal: ObjectJournalSettings = ObjectJournalSettings()
    """The log on the object store."""

    broker: BrokerSettings = BrokerSettings()
    """The Kafka-protocol broker."""

    groups: GroupSettings = GroupSettings()
    """Consumer groups."""
