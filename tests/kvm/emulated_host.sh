#!/usr/bin/env bash
# Runs a command on a KVM host that is made in software: Debian's cloud kernel in QEMU's emulation of an
# AMD processor with SVM and nested paging. Needs no KVM and no rights.
#
#   tests/kvm/emulated_host.sh [-t SECONDS] [-m MEGABYTES] DIRECTORY COMMAND
#
# The directory becomes /payload, and COMMAND runs there (sh -c). Its output is printed; the exit status is its
# own, 124 when the time is up, 125 when the machine did not come up.
#
# QEMU 10 and the kernel are fetched from Debian's backports once, and unpacked into a cache ($KVM_EMULATED_CACHE);
# nothing is installed. Installed must be busybox or busybox-static, and qemu-system-x86 for its libraries. One emulating
# thread: with several, the emulation may run stale code after the kernel patched itself.
#
# On a busy host, KVM_COUNTED_TIME=1 has the machine's clocks count its instructions (4 ns each) and pass over idle time, so
# that nothing in it runs out of time. Tests with more spinning threads than processors do not get on then.
set -euo pipefail

limit=300 memory=3000
while getopts t:m: option; do
    case $option in
    t) limit=$OPTARG ;;
    m) memory=$OPTARG ;;
    *) exit 125 ;;
    esac
done
shift $((OPTIND - 1))
[ $# = 2 ] || { sed -n '2,/^set/p' "$0" | sed '$d' >&2; exit 125; }
payload=$1 command=$2
fail() { echo "emulated_host: $*" >&2; exit 125; }
for tool in busybox dpkg-deb apt-get; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done

cache=${KVM_EMULATED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lazaret-kvm}
work=$(mktemp -d)
vm=
clean_up() { [ -z "$vm" ] || kill "$vm" 2>/dev/null || true; rm -rf "$work"; }
trap clean_up EXIT
trap 'exit 143' INT TERM

fetch() {
    mkdir -p "$cache" "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/debs" "$work/new"
    local archive options kernel package
    archive=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | grep . | sort -u | head -1)
    [ -n "$archive" ] || fail "apt has no package lists: run apt-get update"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive bookworm-backports main" >"$work/apt/sources"
    options=(-q -o "Dir::Etc::sourcelist=$work/apt/sources" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache" -o APT::Default-Release=bookworm-backports)
    chmod -R a+rX "$work"
    apt-get "${options[@]}" update >"$work/apt/log" 2>&1 || { tail -3 "$work/apt/log" >&2; fail "no bookworm-backports"; }
    kernel=$(apt-cache "${options[@]}" depends linux-image-cloud-amd64 |
        sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*-cloud-amd64\)$/\1/p' | head -1)
    [ -n "$kernel" ] || fail "no cloud kernel in bookworm-backports"
    (cd "$work/debs" && apt-get "${options[@]}" download \
        qemu-system-x86 qemu-system-common qemu-system-data seabios "$kernel" >"$work/apt/log" 2>&1) ||
        { tail -3 "$work/apt/log" >&2; fail "packages cannot be fetched"; }
    for package in "$work"/debs/*.deb; do
        dpkg-deb -x "$package" "$work/new"
    done
    mv -T "$work/new" "$cache/root" 2>/dev/null || true # another run may have been faster
}
[ -d "$cache/root" ] || fetch
qemu=$cache/root/usr/bin/qemu-system-x86_64
"$qemu" --version >/dev/null 2>&1 || fail "QEMU does not run: its libraries come with the package qemu-system-x86"
kernel=$(find "$cache/root/boot" -name 'vmlinuz-*' | head -1)

# The initial file system: busybox, KVM's modules, the payload and the libraries of its programs.
root=$work/root
mkdir -p "$root"/{bin,proc,sys,dev,tmp,payload,etc,modules}
cp "$(command -v busybox)" "$root/bin/busybox"
echo 'root:x:0:0:root:/tmp:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
for module in irqbypass ccp kvm kvm-amd; do
    file=$(find "$cache/root" -path '*/modules/*' -name "$module.ko*" | head -1)
    case $file in
    '') ;;
    *.xz) xz -dc "$file" >"$root/modules/$module.ko" ;;
    *.zst) zstd -qdc "$file" >"$root/modules/$module.ko" ;;
    *) cp "$file" "$root/modules/$module.ko" ;;
    esac
done
cp -a "$payload/." "$root/payload/"
printf '%s\n' "$command" >"$root/command"
find "$root/bin" "$root/payload" -type f -perm -u+x | while read -r program; do
    { ldd "$program" 2>/dev/null || true; } | { grep -oE '/[^ ]+' || true; } | while read -r library; do
        [ -e "$root$library" ] || { mkdir -p "$root$(dirname "$library")"; cp -L "$library" "$root$library"; }
    done
done
# In two steps, so that the root is a tmpfs, which pivot_root(2) takes.
cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mkdir /new
/bin/busybox mount -t tmpfs -o mode=755,size=90% root /new
for file in /*; do
    case $file in /new|/proc|/sys|/dev) ;; *) /bin/busybox cp -a "$file" /new/ ;; esac
done
/bin/busybox mkdir /new/proc /new/sys /new/dev
exec /bin/busybox switch_root /new /start
INIT
cat >"$root/start" <<'START'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts pts /dev/pts; mount -t tmpfs shm /dev/shm; mount -t tmpfs tmp /tmp
ip link set lo up
for module in irqbypass ccp kvm kvm-amd; do
    [ ! -f /modules/$module.ko ] || insmod /modules/$module.ko
done
stty -F /dev/ttyS1 raw -echo
stty -F /dev/ttyS2 raw -echo
if [ -c /dev/kvm ]; then
    cd /payload
    sh /command </dev/null >/dev/ttyS1 2>&1
    echo "exit $?" >/dev/ttyS2
fi
reboot -f
START
chmod +x "$root/init" "$root/start"
(cd "$root" && find . | busybox cpio -o -H newc -R 0:0 2>/dev/null) >"$work/initrd"

: >"$work/status"
timeout --foreground -k 5 "$limit" "$qemu" -L "$cache/root/usr/share/qemu" -L "$cache/root/usr/share/seabios" \
    -accel tcg,thread=single ${KVM_COUNTED_TIME:+-icount shift=2,sleep=off} -cpu EPYC,+svm,+npt -smp 2 -m "$memory" -M pc,usb=off,vmport=off \
    -nodefaults -no-user-config -display none -no-reboot -nic none -kernel "$kernel" -initrd "$work/initrd" \
    -append "console=ttyS0 quiet panic=-1 oops=panic reboot=t mitigations=off tsc=reliable no_timer_check nokaslr audit=0 8250.nr_uarts=4" \
    -chardev "file,id=console,path=$work/console" -serial chardev:console \
    -chardev stdio,id=output,signal=off -serial chardev:output \
    -chardev "file,id=status,path=$work/status" -serial chardev:status \
    </dev/null 2>"$work/qemu" &
vm=$!
ended=0
wait "$vm" || ended=$?
vm=
status=$(sed -n 's/^exit \([0-9]*\).*/\1/p' "$work/status" | tail -1)
[ -z "$status" ] || exit "$status"
[ "$ended" != 124 ] && [ "$ended" != 137 ] || { echo "emulated_host: the time of $limit s is up" >&2; exit 124; }
cat "$work/qemu" "$work/console" >&2
fail "the machine ended without a result"
