#!/usr/bin/env bash
# usage: scripts/bench.sh --target [run.sh option...]
#        scripts/bench.sh --guests [VARIATIONS]
#        scripts/bench.sh --host [Google Benchmark option...]
#
#   --target   what the hypervisor's paths cost on the target, in instructions that QEMU counts: the allocators, stage 2, and
#              a guest's exits from its instruction before to the one after. Figures repeat.
#   --guests   what the hypervisor itself executes in a second beside 1 and beside 8 idle Linux guests; and how long Linux with four
#              vCPUs on one CPU takes from reset to its init, the worst of so many variations of memory, command line and
#              initramfs (1 to 10, default 3). In instructions, too, and in minutes of yours.
#   --host     what the allocators cost on this machine, in nanoseconds, beside malloc, jemalloc and mimalloc doing the same
#
# Where there is a bound it stands beside the figure, with OK or over.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib/common.sh"

help() { sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

# name|at most so many instructions
target_bounds='page pair, order 0|60
page pair, order 9|400
timer interrupt to its handler|800
slab pair, 64 bytes|60
hypercall, PSCI_VERSION|80
trapped read, GICD_TYPER|160
fault, block of 2 MiB|180000
fault, page of 4 KiB, besides zeroing|700
GuestWalk of a small page|250
interrupts masked, bench guest|40000
interrupts masked, Linux|40000
interrupts masked, eager guest of a GiB|40000'

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

# masked NAME CONFIGURATION OPTION...: the longest stretch with interrupts masked in a run of that, as a row of the table.
masked() {
  local log=$scratch/masked.log count
  "$root/scripts/run.sh" --batch --icount --timeout 900 --config "$2" "${@:3}" >"$log" ||
    { cat -- "$log" >&2; die 1 "the run failed (see above)"; }
  count=$(sed -n 's/^cadastre: masked: .* at most \([0-9]*\) instructions.*/\1/p' "$log")
  echo "bench: interrupts masked, $1: $count instructions"
}

run_target() {
  local log=$scratch/target.log
  "$root/scripts/run.sh" --batch --icount --timeout 900 --config "$root/dts/bench.dts" --append bench "$@" >"$log" ||
    { cat -- "$log" >&2; die 1 "the run failed (see above)"; }
  {
    masked "bench guest" "$root/dts/bench.dts"
    masked Linux "$root/dts/one-linux.dts"
    masked "eager guest of a GiB" "$root/tests/qemu/eager-gib.dts" --memory 3G
  } >>"$log"
  target_table <"$log"
}

# linux_guest NAME CPUS MIB BOOTARGS [INITRAMFS]: the node of such a guest.
linux_guest() {
  printf '%s { compatible = "cadastre,guest"; cpus = <%d>; memory = /bits/ 64 <%d>;\n' "$1" "$2" $(($3 << 20))
  printf '  kernel { file = "%s/build/guests/linux/zImage"; bootargs = "console=ttyAMA0 %s"; };\n' "$root" "$4"
  printf '  initrd { file = "%s"; }; };\n' "${5:-$root/build/guests/linux/initramfs.cpio.gz}"
}

# run_guests NODES OPTION...: a counted run of them, in the file `log`.
run_guests() {
  printf '/dts-v1/; / { hypervisor { compatible = "cadastre,hypervisor"; %s }; };\n' "$1" >"$scratch/guests.dts"
  "$root/scripts/run.sh" --batch --icount --timeout 1800 --config "$scratch/guests.dts" "${@:2}" >"$log" ||
    { cat -- "$log" >&2; die 1 "the run failed (see above)"; }
}

# idle_cost GUESTS: of the hypervisor, a second, when all of them have been up for long.
idle_cost() {
  local nodes='' i
  for ((i = 0; i < $1; ++i)); do nodes+=$(linux_guest "idle$i" 1 64 'quiet cadastre.idle-until=75'); done
  run_guests "$nodes" --append own-cost=60-70
  sed -n 's/^cadastre: own cost: \([0-9]*\) instructions.*/\1/p' "$log" | awk '{ printf "%d\n", $1 / 10 }'
}

# MiB|words on the kernel's command line|how often the initramfs is there
variations='128|quiet|1
128||1
64|quiet|2
256||1
96|loglevel=8|1
512|quiet|1
128|quiet nohz=off|1
128|quiet threadirqs|1
256|quiet|2
64|init_on_alloc=0|2'

# vcpus_to_init VARIATIONS: thousands of instructions from reset to init, the worst of them.
vcpus_to_init() {
  local mebibytes words copies i worst=0 count initramfs=$scratch/initramfs
  while IFS='|' read -r mebibytes words copies; do
    for ((i = 0; i < copies; ++i)); do cat -- "$root/build/guests/linux/initramfs.cpio.gz"; done >"$initramfs"
    run_guests "$(linux_guest four 4 "$mebibytes" "cadastre.boot-only $words" "$initramfs")"
    count=$(sed -n 's/^cadastre: machine: \([0-9]*\) us from .*/\1/p' "$log")
    say "4 vCPUs, $mebibytes MiB, '$words', initramfs $copies times: $count thousand"
    if ((count > worst)); then worst=$count; fi
  done < <(head -n "$1" <<<"$variations")
  echo "$worst"
}

run_of_guests() {
  local log=$scratch/guests.log one eight worst
  one=$(idle_cost 1)
  eight=$(idle_cost 8)
  worst=$(vcpus_to_init "${1:-3}")
  printf '%-60s %12d\n' "hypervisor, a second beside 1 idle Linux" "$one" \
    "hypervisor, a second beside 8 idle Linux" "$eight" \
    "Linux, 4 vCPUs on a CPU, to init, worst of ${1:-3}, thousands" "$worst"
}

# name/order or size/threads|at most so many ns; where there is no number, at most what the fastest of the others takes
host_bounds='page bulk get/order:0/threads:1|30
page bulk put/order:0/threads:1|24
page repeat pair/order:0/threads:1|15
page random pair/order:0/threads:1|60
slab pair
kmalloc pair'

# run_host_one ALLOCATOR LIBRARY OPTION...: appends `ALLOCATOR|NAME|NS` lines to the file `figures`. LIBRARY takes malloc's
# place; what the program says that it found must be ALLOCATOR.
run_host_one() {
  local program=bench_malloc
  if [[ $1 == cadastre ]]; then program=bench_cadastre; fi
  LD_PRELOAD=$2 "$root/build/bench/tests/bench/$program" --benchmark_format=csv --benchmark_min_time=0.03 "${@:3}" \
    >"$scratch/figures.csv" 2>"$scratch/context"
  grep -qx "allocator: $1" "$scratch/context" ||
    { cat -- "$scratch/context" >&2; die 1 "that was not measured with $1"; }
  sed -n "s@^\"\([^\"]*\)/real_time\(/threads:[0-9]*\)\",.*,\([0-9.e+]*\)\$@$1|\1\2|\3@p" "$scratch/figures.csv" >>"$figures"
}

# Reads `ALLOCATOR|NAME|NS` lines, keeps the best of each; writes the table.
host_table() {
  awk -F '|' '
    NR == FNR { bound[$1] = NF > 1 ? $2 : "fastest"; next }
    {
      if (!($2 in seen)) { seen[$2] = 1; names[++n] = $2 }
      if (!(($1, $2) in best) || $3 < best[$1, $2]) best[$1, $2] = $3
    }
    END {
      split("cadastre malloc jemalloc mimalloc", allocators, " ")
      printf "%-20s %-10s %7s %9s %9s %9s %9s %8s %8s\n", "ns", "", "threads", "cadastre", "malloc", "jemalloc", "mimalloc",
        "/fastest", "at most"
      for (i = 1; i <= n; i++) {
        split(names[i], part, "/")
        sub(/threads:/, "", part[3])
        ours = best["cadastre", names[i]]
        fastest = 1e12
        printf "%-20s %-10s %7d %9.1f", part[1], part[2], part[3], ours
        for (a = 2; a <= 4; a++) {
          other = best[allocators[a], names[i]]
          if (other < fastest) fastest = other
          printf " %9.1f", other
        }
        printf " %8.2f", ours / fastest
        most = names[i] in bound ? bound[names[i]] : part[3] == 1 && part[1] in bound ? fastest : 0
        printf most ? " %8.1f   %s\n" : "\n", most, ours <= most ? "OK" : "over"
      }
    }' <(printf '%s\n' "$host_bounds") "$figures"
}

run_host() {
  local round rounds=8
  if [[ ! ${CADASTRE_NO_BUILD-} ]]; then
    "$root/scripts/setup.sh" bench
    build bench
  fi
  figures=$scratch/figures
  # The machine is never quiet for long: each allocator has its turn in each round, and the best round counts.
  for ((round = 1; round <= rounds; round++)); do
    say "round $round of $rounds"
    run_host_one cadastre '' "$@"
    run_host_one malloc '' "$@"
    run_host_one jemalloc libjemalloc.so.2 "$@"
    run_host_one mimalloc libmimalloc.so.2 "$@"
  done
  host_table
}

make_scratch
case ${1-} in
  --target) run_target "${@:2}" ;;
  --guests) run_of_guests "${2-}" ;;
  --host) run_host "${@:2}" ;;
  --help) help ;;
  *) help >&2; exit 2 ;;
esac
