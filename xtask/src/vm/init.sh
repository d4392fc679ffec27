#!/bin/sh
# The first process in the virtual machine. Says what it does in lines that begin with @offwake; the
# words in capitals are filled in by `cargo xtask vm`.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
    [ -e "$module" ] && insmod "$module"
done
# Where nobody else writes: the kernel's own messages would come between words on the console. The device may be there
# before it can be opened (ENXIO), which would end this shell.
for port in /dev/vport*; do
    [ -e "$port" ] || continue
    tries=0
    until (: >"$port") 2>/dev/null || [ $((tries += 1)) -gt 100 ]; do
        sleep 0.1
    done
    exec >"$port" 2>&1
done
echo "@offwake kernel $(uname -r)"
ip link set lo up
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security
mount -t tmpfs tmpfs /tmp
# As distributions have it: BPF takes capabilities.
echo 1 >/proc/sys/kernel/unprivileged_bpf_disabled

# A suite: its name, the probe, and what to run for it.
suite() {
    name="$1 $2"
    shift 2
    echo "@offwake begin $name"
    "$@"
    echo "@offwake end $name $?"
}

# A test executable, where nothing but busybox and static executables is: the probe, and its arguments.
on_busybox() {
    probe=$1
    shift
    mkdir -p WRITABLE
    run_tests "$probe" "$@"
}

# The same where all of Debian is on one disk, and the tests are on the other.
on_debian() {
    probe=$1
    shift
    run_tests "$probe" chroot /debian "$@"
}

debian() {
    mount -t ext4 /dev/vda /debian && mkdir -p /debian/offwake || return
    mount -t ext4 -o ro /dev/vdb /debian/offwake || return
    mount -t proc proc /debian/proc
    mount -t sysfs sys /debian/sys
    mount -t tracefs tracefs /debian/sys/kernel/tracing
    mount -t devtmpfs dev /debian/dev
    mount -t tmpfs tmpfs /debian/tmp
    mkdir -p /debian/tmp/cgroup && mount -t cgroup2 cgroup2 /debian/tmp/cgroup
    # On the disk, wherever the path leads: with a temporary file system there are no waits for a disk.
    mkdir -p /debian/writable /debianWRITABLE && mount --bind /debian/writable /debianWRITABLE
    mkdir -p /debianMANIFEST/tests /debianMANIFEST/../examples
    ln -s /offwake/sources /debianMANIFEST/tests/unwind
    ln -s /offwake/sources/cpp /debianMANIFEST/../examples/cpp
}

# The headers of the kernel are on a third disk.
headers() {
    mkdir -p /debian/headers && mount -t ext4 -o ro /dev/vdc /debian/headers || return
    mount --bind /debian/headers/usr/src /debian/usr/src
    mkdir -p "/debian/lib/modules/$(uname -r)"
    for link in build source; do
        ln -s "$(readlink "/debian/headers/lib/modules/$(uname -r)/$link")" "/debian/lib/modules/$(uname -r)/$link"
    done
    mount -t debugfs debugfs /debian/sys/kernel/debug
}

# What the tests' children say would come between the words of a line, too.
run_tests() {
    probe=$1
    shift
    env -i PATH=/usr/sbin:/usr/bin:/bin HOME=/tmp LC_ALL=C.UTF-8 \
        OFFWAKE_BIN=/offwake/offwake OFFWAKE_EXAMPLES=/offwake OFFWAKE_PRIVILEGED=require \
        OFFWAKE_SLOW=1 OFFWAKE_TEST_PROBE="$probe" "$@" --test-threads=1 2>/tmp/stderr
    status=$?
    sed 's/^/stderr: /' /tmp/stderr
    return $status
}

SCRIPT
echo '@offwake done'
sync
poweroff -f
