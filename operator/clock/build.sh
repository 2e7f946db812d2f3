#!/bin/sh
# Builds the clock's library: build.sh FILE. Needs gcc and binutils, and no C library: the result asks for none.
set -eu
compiler="${CC:-gcc}"
case "$("$compiler" -dumpmachine)" in
aarch64*) machine=-mno-outline-atomics ;; # or it asks for libgcc
*) machine= ;;
esac
exec "$compiler" -std=gnu11 -O2 $machine -Wall -Wextra -Werror -fPIC -ffreestanding -fno-builtin -fvisibility=hidden \
  -fno-stack-protector -fexceptions -nostdlib -shared -s \
  -Wl,--hash-style=both,-z,defs,-z,relro,-z,now,-z,noexecstack,--build-id=none -o "$1" "$(dirname "$0")/clock.c"
