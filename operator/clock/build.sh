#!/bin/sh
# Builds the clock's library: build.sh FILE. Needs gcc and binutils, and no C library: the result asks for none.
set -eu
exec "${CC:-gcc}" -std=gnu11 -O2 -Wall -Wextra -Werror -fPIC -ffreestanding -fno-builtin -fvisibility=hidden \
  -fno-stack-protector -fexceptions -nostdlib -shared -s \
  -Wl,--hash-style=both,-z,relro,-z,now,-z,noexecstack,--build-id=none -o "$1" "$(dirname "$0")/clock.c"
