"""A small certification authority for tests: certificates of any dates and names, as files."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import NamedTuple

import trustme

NOW = dt.datetime.now(dt.UTC).replace(tzinfo=None)
DAY = dt.timedelta(days=1)


class Files(NamedTuple):
    """Paths of PEM files."""

    certificate: str
    key: str


class Authority:
    """`directory` takes the files; `path` is that of its own certificate."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._ca = trustme.CA(organization_name=f"Headwater tests {name}")
        self.path = str(directory / f"{name}.pem")
        self._ca.cert_pem.write_to_path(self.path)

    def issue(
        self,
        *names: str,
        file: str,
        begins: dt.timedelta = -DAY,
        ends: dt.timedelta = 30 * DAY,
        common_name: str = "test",
    ) -> Files:
        """For these DNS names and addresses; valid from and until so long after now."""
        issued = self._ca.issue_cert(
            *names, common_name=common_name, not_before=NOW + begins, not_after=NOW + ends
        )
        files = Files(
            str(self._directory / f"{file}.pem"), str(self._directory / f"{file}.key.pem")
        )
        Path(files.certificate).unlink(missing_ok=True)
        for blob in issued.cert_chain_pems:
            blob.write_to_path(files.certificate, append=True)
        issued.private_key_pem.write_to_path(files.key)
        return files
