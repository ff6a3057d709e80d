# What the boot tests share: they run a command, and hold its status and its output against what they expect.
# shellcheck shell=bash

# shellcheck source=scripts/lib/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/lib/common.sh"
make_scratch

# What ctest tests was built before.
export CADASTRE_NO_BUILD=1
run() { "$root/scripts/run.sh" --timeout "$patience" "$@"; }

# Seconds after which a run hangs. No verdict depends on it: it is long enough for a machine with much else to do.
readonly patience=${CADASTRE_PATIENCE:-900}
output=$scratch/output

fail() {
  printf 'not as expected: %s\n' "$*"
  exit 1
}

# expect STATUS COMMAND...: runs it; its output is in the file `output`, and shown.
expect() {
  local expected=$1 status=0
  shift
  "$@" >"$output" 2>&1 || status=$?
  cat -- "$output"
  ((status == expected)) || fail "exit status $status instead of $expected"
}

# expect_line REGEX...: each is in a line of the output.
expect_line() {
  local regex
  for regex; do
    grep -Eq -- "$regex" "$output" || fail "no line with: $regex"
  done
}

# expect_one_reason REGEX: exactly one reason was given for a refusal, on a line that has REGEX.
expect_one_reason() {
  (($(grep -c 'refused: ' "$output") == 1)) || fail "not exactly one line with a reason"
  expect_line "refused: $1"
}

# guest NAME IMAGE CPUS MEMORY [BOOTARGS]: the node of a guest that is built here, bare-metal or hostile; MEMORY as 16M.
guest() {
  printf '%s { compatible = "cadastre,guest"; cpus = <%d>; memory = /bits/ 64 <%d>;\n' "$1" "$3" $((${4%M} << 20))
  printf '  kernel { file = "%s"; bootargs = "%s"; }; };\n' "$root/build/armv7-release/guest/$2.bin" "${5-}"
}

# boot_guests NODES RUN-OPTION...: a machine with these guests, which end well.
boot_guests() {
  printf '/dts-v1/; / { hypervisor { compatible = "cadastre,hypervisor"; %s }; };\n' "$1" >"$scratch/guests.dts"
  expect "${expected_status:-0}" run --batch --config "$scratch/guests.dts" "${@:2}"
}

# memory_of DTS NODE: the node's `memory`, in bytes.
memory_of() {
  dtc -q -I dts -O dtb "$1" | fdtget -t x - "$2" memory | {
    read -r high low
    echo $((0x$high << 32 | 0x$low))
  }
}
