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
  sleeper | resetter)
    # The neighbour never waits: half of the CPU is its own, whether the other one sleeps now and then, or is made and ends again
    # and again, more often than it waits between two resets.
    if [[ $role == sleeper ]]; then
      boot_guests "$(guest bad hostile 1 4M 'sleeper for=1200') $(guest good hostile 1 4M 'watcher for=1000')" --icount
    else
      expected_status=1 boot_guests \
        "$(guest bad hostile 1 128M 'resetter touch=128') $(guest good hostile 1 4M 'watcher for=1000')" \
        --icount --append reset-limit=12
    fi
    expect_line '^\[good\] hostile-guest: ok$' '^cadastre: audit: ok '
    read -r all lost longest < <(sed -n 's/^\[good\] .*: of \([0-9]*\) us lost \([0-9]*\) us in .* the longest \([0-9]*\) us.*/\1 \2 \3/p' "$output")
    ((lost * 2 < all + 20000)) || fail "the neighbour lost $lost of $all us, more than half and a slice"
    ((longest < 13000)) || fail "the neighbour's longest gap is $longest us"
    ;;
  kicker)
    # What wakes nobody up disturbs nobody, here a neighbour on the other CPU.
    boot_guests "$(guest bad hostile 2 4M "kicker for=1000 ${3-}") $(guest good hostile 1 4M 'watcher for=500')" --smp 2 --icount
    expect_line '^\[bad\] hostile-guest: kicked [0-9]{5,} times$' '^\[good\] hostile-guest: ok$' '^cadastre: audit: ok '
    lost=$(sed -n 's/^\[good\] .* lost \([0-9]*\) us in .*/\1/p' "$output")
    ((lost < 5000)) || fail "the neighbour lost $lost us of half a second, more than a hundredth"
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
