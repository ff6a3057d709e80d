#!/usr/bin/env bash
# linux.sh CPU MEMORY: on a machine with this CPU and RAM the default configuration boots Debian's Linux, whose RAM is
# what the DTS says, and ends well.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

mib=$(($(memory_of "$root/dts/one-linux.dts" /hypervisor/linux0) >> 20))
# shellcheck source=scripts/lib/config.sh
. "$root/scripts/lib/config.sh"
expect 0 run --batch --timeout 150 --cpu "$1" --memory "$2"
expect_line "^cadastre: memory: $(($(bytes "$2") >> 20)) MiB"
expect_line "^\[linux0\] linux-guest: the device tree has $mib MiB of RAM$" '^\[linux0\] linux-guest: ok$' \
  '^cadastre: guest linux0: powered off' '^cadastre: audit: ok '
