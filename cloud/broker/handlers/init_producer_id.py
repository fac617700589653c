"""InitProducerId (22): an id for an idempotent producer, never given twice.

Versions 0 to 4. A producer that hands in the id it holds (3, KIP-360: it lost track of its sequences) gets a new one:
its new batches then begin a new numbering, and its old epoch can do no harm. Transactional ids are refused.
"""

from __future__ import annotations

from ....core.errors import HeadwaterError, Unavailable
from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ..answer import Answer
from ..node import Asker, Node


def handle(node: Node, asker: Asker, request: InitProducerIdRequest) -> Answer:
    del asker
    if request.transactional_id is not None:
        return InitProducerIdResponse(error_code=ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    return _draw(node)


async def _draw(node: Node) -> InitProducerIdResponse:
    try:
        producer_id = await node.producer_ids.draw()
    except Unavailable:
        return InitProducerIdResponse(error_code=ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
    except HeadwaterError:
        return InitProducerIdResponse(error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE)
    if producer_id is None:
        return InitProducerIdResponse(error_code=ErrorCode.NOT_COORDINATOR)
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)
