#!/usr/bin/env bash
# plan.sh CASE: a plan that asks for more than guests can have is refused with the numbers; what one that is accepted asks for is
# there to the last page, whatever neighbours take.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

# alone MEMORY POPULATE: the only guest of a machine of 256 MiB touches all of its RAM.
alone() {
  boot_guests "$(guest it hostile 1 "$1" toucher | sed "s/cpus = /populate = \"$2\"; &/")" --memory 256M
}

case $1 in
  too-much)
    # Of these 256 MiB some 254 are free, but not all of that is for guests.
    for populate in lazy eager; do
      expected_status=2 alone 253M "$populate"
      expect_one_reason '/hypervisor/it: memory of 253 MiB is more than the 25[0-9]{4} KiB that guests can have'
    done
    ;;
  too-much-together)
    # Each of them would fit, and so would their RAM.
    expected_status=2 boot_guests "$(guest a hostile 1 221M toucher) $(guest b hostile 1 30M toucher)" --memory 256M --smp 2
    expect_line 'refused: guests: 251 MiB of guest RAM and [0-9]+ KiB for its tables are more than the 25[0-9]{4} KiB' \
      'refused: /hypervisor/a: asks for 221 MiB of RAM and [0-9]+ KiB beside it' \
      'refused: /hypervisor/b: asks for 30 MiB of RAM and [0-9]+ KiB beside it'
    ;;
  alone)
    for populate in lazy eager; do
      alone 250M "$populate"
      expect_line '^\[it\] hostile-guest: touched all of its RAM$' '^\[it\] hostile-guest: ok$' '^cadastre: audit: ok '
    done
    ;;
  beside)
    # The neighbour has had all of his when this one begins.
    boot_guests "$(guest greedy hostile 1 218M 'toucher after=3000') $(guest late hostile 1 32M 'toucher before=1500')" \
      --memory 256M --smp "$2"
    expect_line '^\[greedy\] hostile-guest: ok$' '^\[late\] hostile-guest: touched all of its RAM$' \
      '^\[late\] hostile-guest: ok$' '^cadastre: audit: ok '
    ;;
  resets)
    # A guest's memory is still its own when it begins again, beside one that has taken all that he could have.
    expected_status=1 boot_guests "$(guest greedy hostile 1 218M 'toucher after=3000') $(guest again hostile 1 32M 'resetter touch=24')" \
      --memory 256M --smp 2 --append reset-limit=5
    expect_line '^\[greedy\] hostile-guest: ok$' '^cadastre: guest again: failed: more than 5 resets' '^cadastre: audit: ok '
    ! grep -q 'out of memory' "$output" || fail 'there was not what had been promised'
    ;;
  *) fail "no such case: $1" ;;
esac
