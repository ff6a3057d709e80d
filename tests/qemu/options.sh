#!/usr/bin/env bash
# run.sh answers what it cannot do with one line and status 2, before any machine is started.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

# refused REGEX OPTION...
refused() {
  local regex=$1
  shift
  expect 2 run "$@"
  (($(wc -l <"$output") == 1)) || fail "not one line"
  expect_line "^run.sh: $regex"
}

expect 0 run --help
expect_line --config --memory --smp --cpu --append --timeout --icount --gdb --batch
refused "unknown option '--nonsense'" --nonsense
refused "--memory wants a value" --memory
refused "--memory 'much' is not a size" --memory much
refused "--smp '0' is not a number" --smp 0
refused "--cpu 'cortex-a53' is neither" --cpu cortex-a53
refused "--numa '9' is not a number" --numa 9
refused "--timeout 'soon' is not" --timeout soon
refused "refused: .*/nowhere.dts: no such file" --config "$scratch/nowhere.dts"

# dtc's own message comes first, with the line of the user's file.
printf '/dts-v1/;\n/ {\n  hypervisor { bootargs = ; };\n};\n' >"$scratch/broken.dts"
expect 2 run --config "$scratch/broken.dts"
expect_line 'broken.dts:3' '^run.sh: refused: .*/broken.dts: dtc does not take it'
