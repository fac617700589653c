"""The interface to a host and its medium, in a fake /proc and /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.hardware.links import Medium, interface_to, medium_of
from headwater.hardware.sysroot import SysRoot

ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wwan0\t00000000\t0100A8C0\t0003\t0\t0\t700\t00000000\t0\t0\t0
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
wlan0\t0002A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0
down0\t0902A8C0\t00000000\t0000\t0\t0\t0\tFFFFFFFF\t0\t0\t0
no\t0A02A8C0\t00000000\t0201\t0\t0\t0\tFFFFFFFF\t0\t0\t0
cut
"""
ROUTE6 = """\
20010db8000000000000000000000000 20 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003    wwan0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
"""  # noqa: E501


@pytest.fixture
def root(tmp_path: Path) -> SysRoot:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").write_text(ROUTE)
    (tmp_path / "proc/net/ipv6_route").write_text(ROUTE6)
    net = tmp_path / "sys/class/net"
    for name, kind, uevent in (
        ("eth0", 1, "INTERFACE=eth0"),
        ("wlan0", 1, "DEVTYPE=wlan\nINTERFACE=wlan0"),
        ("wwan0", 65534, "DEVTYPE=wwan"),
        ("ppp0", 512, ""),
        ("qmi0", 519, ""),
        ("tun0", 65534, ""),
    ):
        (net / name).mkdir(parents=True)
        (net / name / "type").write_text(f"{kind}\n")
        (net / name / "uevent").write_text(f"{uevent}\n")
    (net / "wlp1s0/phy80211").mkdir(parents=True)
    return SysRoot(tmp_path)


@pytest.mark.parametrize(
    ("host", "interface"),
    [
        ("192.168.1.7", "eth0"),
        ("192.168.2.7", "wlan0"),
        ("192.168.2.9", "wlan0"),  # the longer prefix is not up
        ("192.168.2.10", "wlan0"),  # or rejects
        ("8.8.8.8", "eth0"),  # two defaults: the lower metric
        ("::ffff:192.168.2.7", "wlan0"),
        ("2001:db8::1", "eth0"),
        ("2a00::1", "wwan0"),
        ("fe80::1%wlan0", "wwan0"),
        ("127.0.0.1", "lo"),
        ("::1", "lo"),
        ("cloud.example", ""),
        ("", ""),
    ],
)
def test_the_route_is_the_longest_then_the_cheapest(
    root: SysRoot, host: str, interface: str
) -> None:
    assert interface_to(root, host) == interface


@pytest.mark.parametrize(
    ("interface", "medium"),
    [
        ("eth0", Medium.CABLE),
        ("wlan0", Medium.WIRELESS),
        ("wlp1s0", Medium.WIRELESS),
        ("wwan0", Medium.MODEM),
        ("ppp0", Medium.MODEM),
        ("qmi0", Medium.MODEM),
        ("tun0", Medium.CABLE),
        ("gone0", Medium.CABLE),
    ],
)
def test_the_medium_is_what_the_kernel_says(root: SysRoot, interface: str, medium: Medium) -> None:
    assert medium_of(root, interface) is medium


def test_without_tables_there_is_no_interface(tmp_path: Path) -> None:
    assert interface_to(SysRoot(tmp_path), "8.8.8.8") == ""


def test_this_machine_has_a_route_to_itself() -> None:
    assert interface_to(SysRoot(), "127.0.0.1") == "lo"
