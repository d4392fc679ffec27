#!/bin/sh
# Makes a corpus of small ELF files for `unwind_table`: linked in several ways, with and without
# sections, and with a few bytes changed. Needs gcc, binutils and python3.
set -eu
corpus=$(dirname "$0")/corpus/unwind_table
mkdir -p "$corpus"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
cat > "$work/a.c" <<'C'
#include <alloca.h>
int g(int, void *);
int f(int n) { _Alignas(128) char a[256]; return g(n, alloca(n)) + g(n, a); }
int g(int n, void *p) { return n > 0 ? f(n - 1) : *(int *)p; }
__asm__("restorer: mov $15, %rax\nsyscall\n");
__asm__(".cfi_startproc\n.cfi_signal_frame\nr: mov $15, %eax\nsyscall\n.cfi_endproc\n");
void _start(void) { f(3); }
C
gcc='gcc -O2 -nostdlib -Wl,-z,noseparate-code -Wl,--build-id=none'
$gcc -static "$work/a.c" -o "$corpus/static"
$gcc -static-pie "$work/a.c" -o "$corpus/static-pie"
$gcc -shared -fPIC "$work/a.c" -o "$corpus/shared"
for file in static static-pie shared; do
    strip -o "$corpus/$file-stripped" "$corpus/$file"
    # Without section headers: e_shoff, e_shnum, e_shstrndx.
    cp "$corpus/$file" "$corpus/$file-segments"
    printf '\0\0\0\0\0\0\0\0' | dd of="$corpus/$file-segments" bs=1 seek=40 conv=notrunc status=none
    printf '\0\0\0\0' | dd of="$corpus/$file-segments" bs=1 seek=60 conv=notrunc status=none
done
python3 - "$corpus" <<'P'
import os, random, sys
random.seed(1)
corpus = sys.argv[1]
for name in sorted(os.listdir(corpus)):
    if "~" in name:
        continue
    original = open(os.path.join(corpus, name), "rb").read()
    for n in range(20):
        data = bytearray(original)
        for _ in range(random.randint(1, 6)):
            data[random.randrange(len(data))] = random.choice([0, 0xff, random.randrange(256)])
        open(os.path.join(corpus, f"{name}~{n}"), "wb").write(data)
P
