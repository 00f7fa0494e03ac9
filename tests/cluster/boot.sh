#!/bin/sh
# The first process of a host of the lab. Its root is that of the machine, read-only; LAB_* come from lab.py.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs run /run
mkdir -p /dev/shm /run/lock /run/lib /run/rpcbind /run/rpc_pipefs
mount -t tmpfs shm /dev/shm
mount -t hostfs none /var/lib/nfs -o "$LAB_STATE" 2>/dev/null ||
    mount -t hostfs none /var/lib/nfs -o "hostfs=$LAB_STATE" # by newer kernels and programs
hostname "$LAB_HOST"
ip link set lo up
ip addr add "10.0.0.$LAB_NUMBER/24" dev vec0
ip link set vec0 up
ln -s /usr/lib/uml/modules /run/lib/modules
modprobe -d /run -a sunrpc nfs nfsv3 nfsv4
mount -t rpc_pipefs sunrpc /run/rpc_pipefs
chown _rpc /run/rpcbind
rpcbind -w
rpc.statd
if [ "$LAB_HOST" = s ]; then
    modprobe -d /run nfsd
    mount -t nfsd nfsd /proc/fs/nfsd
    mount -t ext4 -o noatime /dev/ubda /srv
    chmod 1777 /srv
    echo "$LAB_LEASE" >/proc/fs/nfsd/nfsv4leasetime
    echo "$LAB_LEASE" >/proc/fs/nfsd/nfsv4gracetime
    echo 1 >/proc/sys/fs/nfs/nlm_grace_period # for locks, of NFSv4 too; nothing hangs on them
    nfsdcld -p /run/rpc_pipefs -s /var/lib/nfs/nfsdcld
    : >/var/lib/nfs/etab
    : >/var/lib/nfs/rmtab
    exportfs -o rw,sync,no_root_squash,no_subtree_check,insecure,fsid=0 10.0.0.0/24:/srv
    rpc.mountd
    rpc.nfsd 8
else
    case $LAB_VERS in 3) export=/srv ;; *) export=/ ;; esac
    until mount -t nfs -o "vers=$LAB_VERS" "10.0.0.1:$export" /mnt; do sleep 0.3; done
fi
"${LAB_AGENT%%:*}" "${LAB_AGENT#*:}"
