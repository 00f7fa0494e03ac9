#!/bin/sh
# Tests under a Python of 32 bits: what a Raspberry Pi with such a system has, on a kernel of 64 as there.
#     sh tools/narrow.sh [PLACE]     (default: build/narrow; kept for the next time)
# As root, on x86_64, with debootstrap; it takes a Debian for i386 of 700 MB, and five minutes.
set -eu
[ "$(id -u)" = 0 ] || { echo "narrow: this needs root"; exit 1; }
command -v debootstrap >/dev/null || { echo "narrow: this needs debootstrap (apt install debootstrap)"; exit 1; }
cd "$(dirname "$0")/.."
place=$(realpath -m "${1:-build/narrow}")
tests="tests/unit tests/property tests/compat tests/e2e/test_order.py tests/e2e/test_exec.py tests/e2e/test_python.py
    tests/e2e/test_admission.py tests/e2e/test_intake.py tests/e2e/test_recurring.py tests/e2e/test_restart.py"
if [ ! -e "$place/made" ]; then
    mkdir -p "$place"
    debootstrap --arch=i386 --variant=minbase \
        --include=python3,python3-venv,python3-dev,gcc,libc6-dev,procps,strace,openssh-client,git,ca-certificates bookworm "$place"
    cp /etc/resolv.conf "$place/etc/"
    cp /etc/ssl/certs/ca-certificates.crt "$place/etc/ssl/certs/" # where this machine trusts one of its own
    touch "$place/made"
fi
# A namespace of its own: all mounts are gone when it ends.
unshare -m sh -eu -c '
    place=$1; shift
    mount --bind /proc "$place/proc"; mount --rbind /dev "$place/dev"; mount -t tmpfs tmpfs "$place/tmp"
    rm -rf "$place/root/spool"; mkdir "$place/root/spool"
    git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$place/root/spool"
    exec chroot "$place" sh -eu -c "
        cd /root/spool; export LANG=C.UTF-8
        if [ ! -e /ready ]; then
            python3 -m venv /root/venv
            /root/venv/bin/pip install -q -e . pytest pytest-timeout pytest-randomly pytest-xdist hypothesis mypy \
                jsonschema prometheus-client textual starlette uvicorn jinja2 httpx
            touch /ready
        fi
        exec /root/venv/bin/python -m pytest -q -n 2 $*
    "
' narrow "$place" $tests
