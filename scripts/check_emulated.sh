#!/bin/bash
# The tests of the kernels on processors that are not at hand:
#
#   scripts/check_emulated.sh FOLDER build BOCHS     FOLDER is a build's; BOCHS the unpacked source of Bochs 3.0
#   scripts/check_emulated.sh FOLDER run [CPU [TEST…]]
#
# CPU is one of
#
#   penryn           no AVX: the portable kernels
#   haswell          AVX2
#   skylake_x        AVX-512 without BF16
#   sapphire_rapids  AMX (default), in mode bf16
#
# The first two are QEMU's.  The others are those of Bochs, which `build` mends
# (scripts/emulated/bochs-3.0.patch: the system must be able to switch tasks with AMX's tiles, and
# two instructions of AVX512-BF16 were wrong) and compiles into FOLDER/emulator; it boots the Linux
# kernel $KERNEL (a vmlinuz; by default that of the Debian package linux-image-cloud-amd64, downloaded
# by apt-get) with the built tests in its memory.
#
# TEST is the name of a test program, or PROGRAM:PATTERN for the tests of it that match.  An emulator
# takes some hundred times as long; by default those run that take minutes.
#
# Needs, by Debian's names: qemu-user; or g++ cpio grub-pc-bin grub-common xorriso mtools busybox-static
# bochsbios vgabios.
set -eu
folder=$(realpath "$1")
action=${2:-run}
cd "$(dirname "$0")/.."
emulator=$folder/emulator

if [ "$action" = build ]; then
    mkdir -p "$emulator"
    rm -rf "$emulator/source" # a copy onto it would go into it, and patched files cannot be patched
    cp -r "$3" "$emulator/source"
    cd "$emulator/source"
    patch -p1 <"$OLDPWD/scripts/emulated/bochs-3.0.patch"
    CXXFLAGS=-O2 CFLAGS=-O2 ./configure --with-nogui --enable-cpu-level=6 --enable-x86-64 --enable-avx \
        --enable-evex --enable-amx --enable-pci --enable-all-optimizations --enable-protection-keys \
        --enable-cet --enable-uintr --enable-memtype --disable-plugins --disable-docbook >configure.log
    make -j"$(nproc)" >make.log 2>&1 || { tail make.log; exit 1; }
    exit
fi

cpu=${3:-sapphire_rapids}
settings="SIREN_ISA=auto"
case $cpu in
penryn | haswell) model=${cpu^} ;;
skylake_x) model=corei7_skylake_x ;;
sapphire_rapids) model=$cpu settings="SIREN_ISA=amx SIREN_COMPUTE=bf16" ;;
*) echo "check_emulated.sh: CPU \"$cpu\": expected penryn, haswell, skylake_x or sapphire_rapids" >&2; exit 2 ;;
esac
tests=${*:4}
set -f
[ -n "$tests" ] || tests="kernels gemm:test_swiglu gemm:test_bf16* gemm:test_accuracy gemm:test_nothing_to_do
    backward_kernels:test_dx_rows forest score generate policy lora:test_several"
programs=$(for t in $tests; do echo "${t%%:*}"; done | sort -u)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '%s\n' '#include <stdlib.h>' 'void cmocka_set_test_filter(const char *);' \
    '__attribute__((constructor)) static void only(void) { cmocka_set_test_filter(getenv("ONLY")); }' |
    cc -shared -fPIC -o "$work/only.so" -x c -

if [[ $cpu == penryn || $cpu == haswell ]]; then
    bad=0
    for t in $tests; do
        only='*'
        [[ $t != *:* ]] || only=${t#*:}
        echo "== $t"
        qemu-x86_64 -cpu "$model" -E LD_PRELOAD="$work/only.so" -E ONLY="$only" -E $settings \
            "$folder/tests/test_${t%%:*}" >"$work/out" 2>&1 && rc=0 || rc=$?
        grep -avE '^\[ (RUN|      OK)|TCG doesn' "$work/out" | tail -40
        [ $rc = 0 ] || bad=1
    done
    exit $bad
fi

set +f
if [ -z "${KERNEL:-}" ]; then
    if ! ls "$emulator"/boot/vmlinuz-* >/dev/null 2>&1; then
        package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ { print $2 }')
        (cd "$work" && apt-get download "$package" && dpkg -x ./*.deb kernel)
        mkdir -p "$emulator" && cp -r "$work/kernel/boot" "$emulator/"
    fi
    KERNEL=$(ls "$emulator"/boot/vmlinuz-* | head -1)
fi

# A file system with the tests and what they are linked to.
root=$work/root
mkdir -p "$root"/{bin,proc,sys,dev,tmp,lib64,siren/tests,siren/build/tests}
cp "$(command -v busybox)" "$root/bin/busybox"
cp -r tests/fixtures "$root/siren/tests/"
cp "$work/only.so" "$root/lib64/"
for p in $programs; do strip -o "$root/siren/build/tests/test_$p" "$folder/tests/test_$p"; done
strip -o "$root/siren/build/siren" "$folder/siren"
for library in $(ldd "$folder/siren" $(printf "$folder/tests/test_%s " $programs) | grep -o '/[^ :]*\.so[^ :]*' | sort -u); do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
cat >"$root/init" <<END
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
exec >/dev/ttyS0 2>&1
cd /siren
grep -m1 'model name' /proc/cpuinfo
set -f
for t in $(echo "$tests" | tr "\n" " "); do
    case \$t in *:*) only=\${t#*:} ;; *) only='*' ;; esac
    echo "== \$t"
    $settings ONLY=\$only LD_PRELOAD=/lib64/only.so build/tests/test_\${t%%:*} >/tmp/out 2>&1
    rc=\$?
    grep -avE '^\[ (RUN|      OK)' /tmp/out | tail -40
    echo "== exit \$rc of \$t"
done
echo "== all done"
sleep 1
poweroff -f
END
chmod +x "$root/init"
mkdir -p "$work/disc/boot/grub"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/disc/boot/initrd"
cp "$KERNEL" "$work/disc/boot/vmlinuz"
# What the emulator lacks or gets wrong is left out: its HPET, protection keys, RDPID and fast short REP MOVS.
cat >"$work/disc/boot/grub/grub.cfg" <<END
set timeout=0
linux /boot/vmlinuz console=ttyS0 nosmp hpet=disable no5lvl nopku ibt=off clearcpuid=fsrm,rdpid,umip mitigations=off nokaslr random.trust_cpu=on quiet panic=1
initrd /boot/initrd
boot
END
grub-mkrescue -o "$work/disc.iso" "$work/disc" >"$work/grub.log" 2>&1 || { cat "$work/grub.log"; exit 1; }
cat >"$work/bochsrc" <<END
config_interface: textconfig
display_library: nogui
memory: guest=1024, host=1024
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
cpu: model=$model, count=1, ips=100000000
ata0-master: type=cdrom, path=$work/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/serial
log: $work/log
clock: sync=none
END
: >"$work/serial"
tail -F -n +1 --pid=$$ "$work/serial" 2>/dev/null &
follower=$!
(cd "$work" && "$emulator/source/bochs" -q -f bochsrc </dev/null >"$work/console" 2>&1) || true
sleep 1
kill $follower 2>/dev/null || true
grep -aq '^== all done' "$work/serial" || { echo "check_emulated.sh: the emulated machine did not come to the end" >&2; exit 1; }
! grep -aE '^== exit [^0]' "$work/serial"
