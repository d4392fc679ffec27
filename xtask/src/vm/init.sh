#!/bin/sh
# The first process in the virtual machine. Says what it does in lines that begin with @offwake; the
# words in capitals are filled in by `cargo xtask vm`.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo "@offwake kernel $(uname -r)"
for module in /modules/*.ko; do
    [ -e "$module" ] && insmod "$module"
done
ip link set lo up
mount -t tracefs tracefs /sys/kernel/tracing
mount -t tmpfs tmpfs /tmp

# A suite: its name, and what to run for it.
suite() {
    name=$1
    shift
    echo "@offwake begin $name"
    "$@"
    echo "@offwake end $name $?"
}

# Nothing but busybox and the static offwake is here.
record() {
    # At the end of its input the example plays at once.
    offwake PROBE -o /tmp/bare.txt -- /bin/condvar --count 50 </dev/null >/tmp/bare.out 2>&1 &&
        grep -q oracle_consume /tmp/bare.txt && return
    cat /tmp/bare.out
    return 1
}

# All of Debian is on one disk, the tests are on the other.
debian() {
    mount -t ext4 /dev/vda /debian && mkdir -p /debian/offwake || return
    mount -t ext4 -o ro /dev/vdb /debian/offwake || return
    mount -t proc proc /debian/proc
    mount -t sysfs sys /debian/sys
    mount -t tracefs tracefs /debian/sys/kernel/tracing
    mount -t devtmpfs dev /debian/dev
    mount -t tmpfs tmpfs /debian/tmp
    mkdir -p /debian/tmp/cgroup && mount -t cgroup2 cgroup2 /debian/tmp/cgroup
    mkdir -p /debianWRITABLE /debianMANIFEST/tests
    ln -s /offwake/sources /debianMANIFEST/tests/unwind
}

# A test executable, and its arguments.
run_tests() {
    chroot /debian /usr/bin/env -i PATH=/usr/sbin:/usr/bin HOME=/tmp LC_ALL=C.UTF-8 \
        OFFWAKE_BIN=/offwake/offwake OFFWAKE_EXAMPLES=/offwake OFFWAKE_PRIVILEGED=require \
        OFFWAKE_SLOW=1 OFFWAKE_TEST_PROBE=NAME "$@" --test-threads=1
}

echo '@offwake begin check'
offwake check
echo "@offwake end check $?"
SUITES
echo '@offwake done'
poweroff -f
