#!/usr/bin/env bash
# boards.sh MACHINE: on this machine, by its own device tree, several guests run side by side on as many CPUs as its firmware
# starts, and all ends well.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

case $1 in
  virt) cpus=2 up=2 ;;
  vexpress-a15) cpus=2 up=1 ;; # nobody there starts the second
  orangepi-pc) cpus=4 up=4 ;;
esac

{
  echo '/dts-v1/; / { hypervisor { compatible = "cadastre,hypervisor";'
  for guest in 0 1 2 3; do
    echo "bare$guest { compatible = \"cadastre,guest\"; memory = /bits/ 64 <0x2000000>;" \
      "kernel { file = \"$root/build/armv7-release/guest/bare-metal.bin\"; }; };"
  done
  echo '}; };'
} >"$scratch/config.dts"

expect 0 run --batch --timeout 150 --machine "$1" --smp "$cpus" --config "$scratch/config.dts"
expect_line "^cadastre: cpus: $up up$" '^cadastre: audit: ok '
for guest in 0 1 2 3; do expect_line "^\[bare$guest\] bare-metal-guest: ok$" "^cadastre: guest bare$guest: powered off"; done
