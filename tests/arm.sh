#!/bin/sh
# The edge on the machine it is for: installed and tested in a Debian of arm64 (a Raspberry Pi's), under qemu.
# Needs root, Debian, and half a gigabyte in .cache/arm64. The processor is emulated, the kernel is this machine's: what it
# shows is that everything builds and holds there, compiled leaves too; how fast it is there, it does not.
set -eu
cd "$(dirname "$0")/.."
root=$PWD/.cache/arm64
tests=${*:-tests/edge/sockets tests/edge/mqtt tests/edge/broker/test_plain.py
    tests/edge/broker/test_publishing.py tests/edge/broker/test_durable_sessions.py tests/core/journal_files/test_format.py
    tests/core/journal_files/test_real_disk.py tests/core/journal_files/test_power_cuts.py tests/edge/test_daemon.py}

[ "$(id -u)" = 0 ] || { echo "make arm needs root (debootstrap, chroot, binfmt_misc)"; exit 78; }
if ! command -v qemu-aarch64-static >/dev/null || ! command -v debootstrap >/dev/null; then
    echo "installing qemu-user-static and debootstrap"
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        qemu-user-static debootstrap; } >.cache/apt.log 2>&1 || { echo "apt-get failed, see .cache/apt.log"; exit 1; }
fi
binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
# "F": the interpreter is opened now, so that it is found inside the chroot
[ -e $binfmt/qemu-aarch64 ] || printf '%s' ':qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:F' >$binfmt/register

if [ ! -e "$root/.ready" ]; then
    echo "making a Debian of arm64 in .cache/arm64 (five minutes)"
    rm -rf "$root"
    debootstrap --arch=arm64 --foreign --variant=minbase \
        --include=python3,python3-venv,python3-dev,gcc,libc6-dev,ca-certificates bookworm "$root" >.cache/arm64.log 2>&1 &&
        chroot "$root" /debootstrap/debootstrap --second-stage >>.cache/arm64.log 2>&1 ||
        { tail -3 .cache/arm64.log; echo "debootstrap failed, see .cache/arm64.log"; exit 1; }
    touch "$root/.ready"
fi
# what this machine reaches its packages with, it reaches them with too
cp /etc/resolv.conf "$root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"

mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
trap 'umount "$root/proc" "$root/dev"' EXIT
rm -rf "$root/src" && mkdir "$root/src"
git archive HEAD | tar x -C "$root/src"

echo "installing the edge there, from source"
chroot "$root" /bin/sh -euc '
    cd /src
    [ -x /venv/bin/python ] || python3 -m venv /venv
    /venv/bin/pip install --quiet --disable-pip-version-check --editable .
    /venv/bin/pip install --quiet --disable-pip-version-check \
        $(sed -n "s/^ *\"\(\(pytest\|hypothesis\|paho-mqtt\|aiomqtt\|trustme\|pytest-timeout\)==[^\"]*\)\",.*/\1/p" pyproject.toml | sort -u)
    /venv/bin/python - <<EOF
import platform
from headwater.core import leaves
from headwater.edge.sockets import sockets
print(platform.machine(), "Python", platform.python_version(), "compiled leaves:", sockets.COMPILED)
assert sockets.COMPILED
EOF'
echo "running $tests"
chroot "$root" /bin/sh -euc \
    "cd /src && /venv/bin/python -m pytest -q -p no:cacheprovider --timeout=900 -m 'not alone' $(echo $tests)"
