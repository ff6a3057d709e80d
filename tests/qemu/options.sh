#!/usr/bin/env bash
# run.sh answers what it cannot do with one line and status 2, before any machine is started; and takes files of any name.
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
refused "--numa .* is not a number" --numa ""
refused "--timeout 'soon' is not" --timeout soon
refused "refused: .*/nowhere.dts: no such file" --config "$scratch/nowhere.dts"

# dtc's own message comes first, with the line of the user's file.
printf '/dts-v1/;\n/ {\n  hypervisor { bootargs = ; };\n};\n' >"$scratch/broken.dts"
expect 2 run --config "$scratch/broken.dts"
expect_line 'broken.dts:3' '^run.sh: refused: .*/broken.dts: dtc does not take it'

# Names are names, whatever is in them: of the configuration, of its folder, of a guest's file, of the scratch directory.
odd="$scratch/-odd, \"a\\b' \$(c)"
mkdir "$odd"
sed 's@"\.\./build/[^"]*@"-kernel, 1.bin@' "$root/dts/bare-metal.dts" >"$odd/-guest 1.dts"
cp "$root/build/armv7-release/guest/bare-metal.bin" "$odd/-kernel, 1.bin"
cd "$odd"
TMPDIR=$odd expect 0 run --batch --config '-guest 1.dts'
TMPDIR=$odd expect 0 run --batch --config "$odd/-guest 1.dts"
cd "$root"
