"""Sources from their settings; the only place that an edge without any never imports."""

from __future__ import annotations

import random

from ...core.clock import KnownTime
from ..broker.broker import Broker
from .settings import SourcesSettings
from .upstream import MqttSource, check_installed


def make_sources(
    settings: SourcesSettings,
    broker: Broker,
    *,
    edge: str,
    log_id: str,
    known: KnownTime,
    rng: random.Random,
) -> list[MqttSource]:
    """Raises Misconfigured where what they need is not installed."""
    check_installed()
    return [
        MqttSource(each, broker, edge=edge, log_id=log_id, rng=rng, known=known)
        for each in settings.mqtt
    ]
