#!/usr/bin/env bash
# usage: scripts/bench.sh --target [run.sh option...]
#        scripts/bench.sh --host [Google Benchmark option...]
#
#   --target   what the hypervisor's paths cost on the target, in instructions that QEMU counts: the allocators, stage 2, and
#              a guest's exits from its instruction before to the one after. Figures repeat.
#   --host     what the allocators cost on this machine, in nanoseconds, beside malloc, jemalloc and mimalloc doing the same
#
# Where there is a bound it stands beside the figure, with OK or over.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib/common.sh"

help() { sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

# name|at most so many instructions
target_bounds='page pair, order 0|60
page pair, order 9|400
slab pair, 64 bytes|60
hypercall, PSCI_VERSION|80
trapped read, GICD_TYPER|160
fault, page of 4 KiB, besides zeroing|700
GuestWalk of a small page|250'

# Reads a run's lines; writes the table. The guest says ns, of a clock that counts instructions.
target_table() {
  awk -F '|' '
    NR == FNR { bound[$1] = $2; next }
    match($0, /bench: /) {
      line = substr($0, RSTART + 7)
      if (!match(line, /: [0-9]+ (instructions|ns)\r?$/)) next
      name = substr(line, 1, RSTART - 1)
      split(substr(line, RSTART + 2), words, " ")
      add(name, words[1])
      if (name ~ /^fault, /) add(name ", besides zeroing", words[1] - cost["zeroing" substr(name, 6)])
    }
    function add(name, count) { cost[name] = count; names[++n] = name }
    END {
      printf "%-48s %12s %8s\n", "", "instructions", "at most"
      for (i = 1; i <= n; i++) {
        name = names[i]
        if (name in bound) verdict = sprintf("%8d   %s", bound[name], cost[name] <= bound[name] ? "OK" : "over")
        else verdict = ""
        printf "%-48s %12d %s\n", name, cost[name], verdict
      }
    }' <(printf '%s\n' "$target_bounds") - | sed 's/ *$//'
}

run_target() {
  local log=$scratch/target.log
  "$root/scripts/run.sh" --batch --icount --timeout 240 --config "$root/dts/bench.dts" --append bench "$@" >"$log" ||
    { cat -- "$log" >&2; die 1 "the run failed (see above)"; }
  target_table <"$log"
}

make_scratch
case ${1-} in
  --target) run_target "${@:2}" ;;
  --help) help ;;
  *) help >&2; exit 2 ;;
esac
