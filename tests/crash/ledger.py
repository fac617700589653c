"""The witness's ledger, read back: an account that owes nothing to the tiers it is about."""

from __future__ import annotations

from pathlib import Path

from headwater.demo.judging import Account


def read(path: Path) -> Account:
    account = Account()
    text = path.read_text(encoding="ascii") if path.exists() else ""
    # a witness that is still writing has perhaps half a line
    for line in text[: text.rfind("\n") + 1].splitlines():
        mark, device, sequence = line.split(" ")
        message = (device, int(sequence))
        if mark == "A":
            account.acknowledged.add(message)
        else:
            account.sent[message] += 1
    return account
