#!/usr/bin/env bash
# The figures of scripts/bench.sh --target do not get worse: what keeps its bound goes on keeping it, and the rest stays
# within a tenth of what it was when this table was written.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

# Names as in the table; without a bound there, or over it.
declare -A was=(
  ['kmalloc pair, 64 bytes']=60
  ['zeroing, page of 4 KiB']=224
  ['zeroing, block of 2 MiB']=98336
  ['map 1 GiB by 4 KiB']=10468656
  ['unmap 1 GiB by 4 KiB']=3249852
  ['map 1 GiB by 2 MiB']=55407
  ['unmap 1 GiB by 2 MiB']=6372
  ['map 1 GiB by 1 GiB']=224
  ['unmap 1 GiB by 1 GiB']=133
  ['split of a block of 2 MiB']=8230
  ['merge of a block of 2 MiB']=5860
  ['dirty-log fetch of 128 MiB, none dirty']=12330
  ['dirty-log fetch of 128 MiB, all dirty']=2077783
  ['hypercall, not supported']=59
  ['trapped write, GICD_ISACTIVER']=900
  ['fault, block of 2 MiB, besides zeroing']=5820
  ['fault, page of 4 KiB']=1139
  ['fault, page of 4 KiB, besides zeroing']=915
  ['GuestWalk of a small page, and its memory type']=345
  ['GuestWalk of a page of long descriptors']=409
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
