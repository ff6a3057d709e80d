#!/usr/bin/env bash
# neighbours.sh spin|wake|second-cpu [CPUS]: a guest has its share of a CPU beside one that never waits, or does nothing but
# wake up; a CPU that a guest switches off and on again has nothing of its old state, and gives nothing to its neighbour.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

kernel="kernel { file = \"$root/build/armv7-release/guest/bare-metal.bin\"; bootargs = "
common='compatible = "cadastre,guest"; memory = /bits/ 64 <0x400000>;'

# boot GUESTS RUN-OPTION...: a machine with these guests.
boot() {
  printf '/dts-v1/; / { hypervisor { compatible = "cadastre,hypervisor"; %s }; };\n' "$1" >"$scratch/config.dts"
  expect 0 run --batch --timeout 60 --config "$scratch/config.dts" "${@:2}"
}
line_of() { grep -n "^cadastre: guest $1: powered off" "$output" | cut -d: -f1; }

case $1 in
  spin | wake)
    boot "good { $common cpus = <1>; $kernel \"\"; }; }; bad { $common cpus = <1>; $kernel \"$1\"; }; };" --icount
    expect_line '^\[good\] bare-metal-guest: ok$' "^\[bad\] bare-metal-guest: ${1}s" '^cadastre: audit: ok '
    (($(line_of good) < $(line_of bad))) || fail "the guest has to wait for its neighbour's end"
    ;;
  second-cpu)
    boot "both { $common cpus = <2>; $kernel \"second-cpu\"; }; };" --smp "$2"
    expect_line '^\[both\] bare-metal-guest: the second CPU starts as after power-on each time$' \
      '^\[both\] bare-metal-guest: ok$' '^cadastre: audit: ok '
    ;;
  *) fail "no case '$1'" ;;
esac
