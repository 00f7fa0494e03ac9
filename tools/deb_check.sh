#!/bin/sh
# Install a package of tools/deb.py, use it under a systemd of its own, remove it, see that nothing stays.
#     sh tools/deb_check.sh dist/spool_0.1.0_amd64.deb
# As root; nothing of this machine is changed: all of it happens on an overlay, in namespaces.
set -eu

outside() {
    [ "$(id -u)" = 0 ] || { echo "deb-check: this needs root"; exit 1; }
    [ -x /lib/systemd/systemd ] || { echo "deb-check: this needs systemd installed"; exit 1; }
    place=$(mktemp -d)
    trap 'leave' EXIT
    name=spool-check-$$
    for group in $(groups_here); do mkdir -p "$group/$name" && echo $$ >"$group/$name/cgroup.procs"; done
    mount -t tmpfs tmpfs "$place"
    mkdir "$place/upper" "$place/work" "$place/root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" "$place/root"
    cp "$1" "$place/root/root/spool.deb"
    cp "$0" "$place/root/root/check.sh"
    unshare --kill-child -m -p -f -C -u -i --propagation private sh "$0" --boot "$place/root" >"$place/boot" 2>&1 || true
    cat "$place/root/root/said"
    if ! grep -q '^deb-check: all is well' "$place/root/root/said"; then
        cat "$place/boot" "$place/root/root/err" 2>/dev/null
        exit 1
    fi
}

groups_here() {
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo /sys/fs/cgroup; else
        for kind in systemd memory pids; do echo "/sys/fs/cgroup/$kind"; done
    fi
}

leave() {
    umount -R "$place" || true
    rmdir "$place"
    for group in $(groups_here); do
        echo $$ >"$group/cgroup.procs"
        find "$group/$name" -depth -type d -exec rmdir {} + || true
    done
}

boot() {
    mount -t proc proc "$1/proc"
    for dir in run tmp var/tmp; do mount -t tmpfs tmpfs "$1/$dir"; done # what a boot cleans
    mount --rbind /dev "$1/dev"
    mount -t sysfs -o ro sysfs "$1/sys"
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then mount -t cgroup2 cgroup "$1/sys/fs/cgroup"; else
        mount -t tmpfs tmpfs "$1/sys/fs/cgroup"
        mkdir "$1/sys/fs/cgroup/systemd" "$1/sys/fs/cgroup/memory" "$1/sys/fs/cgroup/pids"
        mount -t cgroup -o none,name=systemd cgroup "$1/sys/fs/cgroup/systemd"
        mount -t cgroup -o memory cgroup "$1/sys/fs/cgroup/memory"
        mount -t cgroup -o pids cgroup "$1/sys/fs/cgroup/pids"
    fi
    cat >"$1/etc/systemd/system/check.service" <<'END'
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
TimeoutStartSec=5min
ExecStart=/bin/sh /root/check.sh --inside
ExecStopPost=/bin/systemctl poweroff --force --force
StandardOutput=append:/root/said
StandardError=inherit
END
    printf '[Unit]\nDefaultDependencies=no\nRequires=check.service\n' >"$1/etc/systemd/system/check.target"
    exec chroot "$1" env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --unit=check.target --log-target=console
}

active() { [ "$(systemctl is-active "$1")" = active ]; }

inside() {
    cd /root
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin SPOOL_DIR=/var/spool/spool
    dpkg --purge spool >/dev/null 2>&1 || true
    dpkg -i spool.deb >/dev/null
    dpkg -L spool | sort >files
    spool --version
    useradd -m zoe && usermod -aG spool-submit,spool-read zoe
    mkdir -p /var/spool
    mount -t tmpfs tmpfs /var/spool # an overlay is no file system for a spool
    mkdir -p /etc/systemd/system/spoold.service.d
    printf '[Service]\nStandardError=append:/root/err\n' >/etc/systemd/system/spoold.service.d/err.conf
    systemctl daemon-reload
    spool init --system
    cat >>$SPOOL_DIR/spool.toml <<'END'
[policy."group:spool-submit"]
tasks = ["sum.*", "py.*"]
outboxes = ["default"]
[handlers."sum.*"]
exec = ["sha256sum"]
[handlers."py.*"]
python = "task_of_ours"
cwd = "/opt"
END
    printf 'from spool import task\n@task("py.double")\ndef double(n: int) -> int:\n    return 2 * n\n' >/opt/task_of_ours.py

    systemctl start spoold.path
    ! active spoold.service
    used "the first task starts spoold"
    before=$(systemctl show spoold -p NRestarts)
    systemctl kill -s KILL spoold.service
    for _ in $(seq 300); do
        [ "$before" = "$(systemctl show spoold -p NRestarts)" ] || break
        sleep 0.1
    done
    used "it is back after a kill"
    echo '# read again' >>$SPOOL_DIR/spool.toml
    systemctl reload spoold
    cp /usr/share/doc/spool/spoold-strict.conf /etc/systemd/system/spoold.service.d/
    systemctl daemon-reload
    systemctl restart spoold
    used "it works with the strict drop-in"
    systemctl status spoold --no-pager -l | grep -E 'Active|Status'
    systemd-analyze security spoold --no-pager | tail -n 1
    systemctl stop spoold.path spoold.service
    [ "$(systemctl show spoold -p Result)" = Result=success ]

    mount -t tmpfs -o mode=1777 tmpfs /home/zoe
    runuser -u zoe -- env -u SPOOL_DIR HOME=/home/zoe sh -ec 'cd; spoold -q & spool run --wait --timeout 60s -- true; kill $!; wait $!'
    echo "ok: a user's own spool"
    user_units
    runuser -u zoe -- timeout 30 spool dash --help >/dev/null
    for page in man1/spool.1 man5/spool.5 man5/spool.toml.5 man7/spool.7 man8/spoold.8; do
        [ -f "/usr/share/man/$page" ]
    done
    bash -c '. /usr/share/bash-completion/completions/spool && complete -p spool' >/dev/null
    [ -z "$(find /usr/lib/spool -newer files)" ] # nothing is written where it is installed
    dpkg --purge spool >/dev/null
    left=$(while read -r path; do [ -d "$path" ] || [ ! -e "$path" ] || echo "$path"; done <files)
    [ -z "$left" ] || { echo "deb-check: left behind: $left"; exit 1; }
    [ ! -e /usr/lib/spool ]
    [ -d $SPOOL_DIR/done ] # what people put there stays
    echo "deb-check: all is well: installed, used, removed; nothing is left"
}

user_units() {
    uid=$(id -u zoe)
    install -d -o zoe -m 700 "/run/user/$uid"
    systemd-run -q --unit=zoe.service -p User=zoe -p Delegate=yes -p Type=notify \
        -p StandardError=append:/root/err -E HOME=/home/zoe -E XDG_RUNTIME_DIR="/run/user/$uid" \
        /lib/systemd/systemd --user
    zoe spool init
    zoe systemctl --user start spoold.path
    ! zoe systemctl --user -q is-active spoold.service
    zoe_runs "the first task starts a user's own spoold"
    zoe systemctl --user kill -s KILL spoold.service
    zoe_runs "it is back after a kill"
    zoe systemctl --user reload spoold.service
    zoe systemctl --user stop spoold.service
    zoe_runs "the next task starts it again"
    zoe systemctl --user status spoold.service --no-pager -l | grep -E 'Active|Status'
    zoe systemctl --user stop spoold.path spoold.service
    [ "$(zoe systemctl --user show spoold -p Result)" = Result=success ]
    systemctl stop zoe.service
}

zoe() {
    runuser -u zoe -- env -u SPOOL_DIR -C /home/zoe HOME=/home/zoe XDG_RUNTIME_DIR="/run/user/$(id -u zoe)" "$@"
}

zoe_runs() {
    zoe spool run --wait --timeout 60s -- true
    zoe systemctl --user -q is-active spoold.service
    echo "ok: $1"
}

used() {
    id=$(runuser -u zoe -- spool submit sum.text --args '"hello"')
    runuser -u zoe -- spool wait --timeout 60s "$id" >/dev/null
    [ "$(runuser -u zoe -- spool wait --timeout 60s "$(runuser -u zoe -- spool submit py.double n=21)")" = 42 ]
    active spoold.service
    echo "ok: $1"
}

case $1 in
    --boot) boot "$2" ;;
    --inside) inside ;;
    *) outside "$1" ;;
esac
