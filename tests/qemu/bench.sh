#!/usr/bin/env bash
# The figures of scripts/bench.sh --target do not get worse: what keeps its bound goes on keeping it, and the rest stays
# within a tenth of what it was when this table was written.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

# Names as in the table; without a bound there, or over it.
declare -A was=(
  ['page pair, order 0']=78
  ['page pair, order 9']=433
  ['kmalloc pair, 64 bytes']=127
  ['zeroing, page of 4 KiB']=224
  ['zeroing, block of 2 MiB']=98341
  ['map 1 GiB by 4 KiB']=11255155
  ['unmap 1 GiB by 4 KiB']=3252561
  ['map 1 GiB by 2 MiB']=55506
  ['unmap 1 GiB by 2 MiB']=6398
  ['map 1 GiB by 1 GiB']=303
  ['unmap 1 GiB by 1 GiB']=167
  ['split of a block of 2 MiB']=8266
  ['merge of a block of 2 MiB']=11526
  ['dirty-log fetch of 128 MiB, none dirty']=17521
  ['dirty-log fetch of 128 MiB, all dirty']=2397335
  ['hypercall, PSCI_VERSION']=87
  ['hypercall, not supported']=90
  ['trapped read, GICD_TYPER']=180
  ['trapped write, GICD_ISACTIVER']=980
  ['fault, block of 2 MiB']=99189
  ['fault, block of 2 MiB, besides zeroing']=848
  ['fault, page of 4 KiB']=819
)

expect 0 "$root/scripts/bench.sh" --target
figures=0
while read -r line; do
  [[ $line =~ ^(.*[^ ])\ +([0-9]+)(\ +[0-9]+\ +(OK|over))?$ ]] || continue
  name=${BASH_REMATCH[1]} count=${BASH_REMATCH[2]} verdict=${BASH_REMATCH[4]}
  figures=$((figures + 1))
  if [[ $verdict == OK ]]; then continue; fi
  most=$((${was[$name]-0} * 11 / 10))
  ((most != 0)) || fail "$name: $count instructions is over its bound, or there is no figure to compare it with"
  ((count <= most)) || fail "$name: $count instructions is more than $most, a tenth more than it was"
done <"$output"
# A figure that is not there cannot be worse.
((figures >= ${#was[@]})) || fail "only $figures figures"
