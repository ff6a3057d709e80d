#!/usr/bin/env bash
# What it takes from the hypervisor's first instruction to the first guest's, counted in instructions: a 128 MiB Linux
# guest on a 1 GiB machine, and what each further GiB of the machine's RAM adds. And what the memory manager keeps for itself.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

readonly most=10000000 most_per_gib=3000000

# instructions MEMORY: sets `count`.
instructions() {
  expect 0 run --batch --icount --memory "$1"
  count=$(sed -n 's/^cadastre: boot: \([0-9]*\) instructions to first guest entry.*/\1/p' "$output")
  [[ $count ]] || fail "no line with the count"
}

instructions 1G
one=$count
besides=$(sed -n 's/^cadastre: memory: metadata: 16 bytes for each of 262144 frames, 4096 KiB, and \([0-9]*\) KiB besides$/\1/p' "$output")
((${besides:-65} <= 64)) || fail "the metadata of 1 GiB is not 16 bytes a frame and at most 64 KiB"
instructions 3G
three=$count
echo "boot cost: $one instructions with 1 GiB, $three with 3 GiB, $(((three - one) / 2)) for a further GiB"
((one <= most)) || fail "$one instructions with 1 GiB are more than $most"
((three - one <= 2 * most_per_gib)) || fail "a further GiB takes more than $most_per_gib instructions"
