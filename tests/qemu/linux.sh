#!/usr/bin/env bash
# linux.sh CONFIGURATION CPU MEMORY [GUEST-MEMORY]: on a machine with this CPU and RAM the configuration of this name boots
# Debian's Linux, whose RAM is what the DTS says, or this much instead, and ends well.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

config=$root/dts/$1.dts
# shellcheck source=scripts/lib/config.sh
. "$root/scripts/lib/config.sh"
if [[ ${4-} ]]; then
  sed "s@memory = .*;@memory = /bits/ 64 <$(bytes "$4")>;@; s@\"\.\./@\"$root/@" "$config" >"$scratch/config.dts"
  config=$scratch/config.dts
fi
mib=$(($(memory_of "$config" /hypervisor/linux0) >> 20))
expect 0 run --batch --config "$config" --cpu "$2" --memory "$3"
expect_line "^cadastre: memory: $(($(bytes "$3") >> 20)) MiB"
expect_line "^\[linux0\] linux-guest: the device tree has $mib MiB of RAM$" '^\[linux0\] linux-guest: ok$' \
  '^cadastre: guest linux0: powered off' '^cadastre: audit: ok '
