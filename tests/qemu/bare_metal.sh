#!/usr/bin/env bash
# bare_metal.sh RUN-OPTION...: the bare-metal guest boots, finds the RAM that the DTS says, checks all and ends well.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

config=$root/dts/bare-metal.dts
guest=$(dtc -q -I dts -O dtb "$config" | fdtget -l - /hypervisor)
mib=$(($(memory_of "$config" "/hypervisor/$guest") >> 20))
expect 0 run --batch --config "$config" "$@"
expect_line "^\[$guest\] bare-metal-guest: the device tree has $mib MiB of RAM at 0x40000000$" \
  "^\[$guest\] bare-metal-guest: ok$" "^cadastre: guest $guest: powered off" '^cadastre: audit: ok '
