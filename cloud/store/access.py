"""How another library reaches the same S3 that boto3 would: endpoint, region and credentials by the usual AWS variables."""

from __future__ import annotations

from typing import NamedTuple

import boto3

_FALLBACK_REGION = "us-east-1"


class S3Access(NamedTuple):
    """`host` is set where the endpoint is not Amazon's; such servers want the bucket in the path."""

    region: str
    host: str | None
    tls: bool
    key: str
    secret: str
    token: str


def s3_access() -> S3Access:
    session = boto3.Session()
    region = session.region_name or _FALLBACK_REGION
    client = session.client("s3", region_name=region)
    endpoint = client.meta.endpoint_url
    client.close()
    scheme, _, host = endpoint.partition("://")
    credentials = session.get_credentials()
    frozen = credentials.get_frozen_credentials() if credentials else None
    return S3Access(
        region=region,
        host=None if "amazonaws.com" in host else host.rstrip("/"),
        tls=scheme == "https",
        key=(frozen.access_key or "") if frozen else "",
        secret=(frozen.secret_key or "") if frozen else "",
        token=(frozen.token or "") if frozen else "",
    )
