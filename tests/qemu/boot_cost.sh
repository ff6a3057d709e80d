#!/usr/bin/env bash
# What it takes from the hypervisor's first instruction to the first guest's, counted in instructions: a 128 MiB Linux
# guest on a 1 GiB machine, and what each further GiB of the machine's RAM adds.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

readonly most=10000000 most_per_gib=3000000

# instructions MEMORY: sets `count`.
instructions() {
  expect 0 run --batch --timeout 240 --icount --memory "$1"
  count=$(sed -n 's/^cadastre: boot: \([0-9]*\) instructions to first guest entry.*/\1/p' "$output")
  [[ $count ]] || fail "no line with the count"
}

instructions 1G
one=$count
instructions 3G
three=$count
echo "boot cost: $one instructions with 1 GiB, $three with 3 GiB, $(((three - one) / 2)) for a further GiB"
((one <= most)) || fail "$one instructions with 1 GiB are more than $most"
((three - one <= 2 * most_per_gib)) || fail "a further GiB takes more than $most_per_gib instructions"
