#!/usr/bin/env bash
# hostile.sh ROLE [CPUS] [WORD]: what guests that mean harm (guest/hostile/) cannot do to the machine and to their neighbours.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

role=$1
cpus=${2:-1}
line_of() { grep -n "^cadastre: guest $1: powered off" "$output" | cut -d: -f1; }

case $role in
  spinner | waker)
    # The neighbour has its share of the CPU.
    boot_guests "$(guest good bare-metal 1 4M) $(guest bad hostile 1 4M "$role for=1000")" --icount
    expect_line '^\[good\] bare-metal-guest: ok$' '^\[bad\] hostile-guest: ok$' '^cadastre: audit: ok '
    (($(line_of good) < $(line_of bad))) || fail "the guest has to wait for its neighbour's end"
    ;;
  second-cpu)
    boot_guests "$(guest both hostile 2 4M second-cpu)" --smp "$cpus"
    expect_line '^\[both\] hostile-guest: the second CPU starts as after power-on each time$' \
      '^\[both\] hostile-guest: ok$' '^cadastre: audit: ok '
    ;;
  translator)
    # Nobody walks on the CPU what the guest changes meanwhile: that ended the machine.
    boot_guests "$(guest bad hostile 2 16M "translator $3") $(guest good hostile 1 4M 'watcher for=3000')" --smp "$cpus"
    expect_line '^\[bad\] hostile-guest: could not execute a device 100000 times$' '^\[good\] hostile-guest: ok$' \
      '^cadastre: audit: ok '
    ;;
  *) fail "no case '$role'" ;;
esac
