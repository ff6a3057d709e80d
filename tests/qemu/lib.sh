# What the boot tests share: they run a command, and hold its status and its output against what they expect.
# shellcheck shell=bash

# shellcheck source=scripts/lib/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/lib/common.sh"
make_scratch

# What ctest tests was built before.
export CADASTRE_NO_BUILD=1
run() { "$root/scripts/run.sh" "$@"; }
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

# memory_of DTS NODE: the node's `memory`, in bytes.
memory_of() {
  dtc -q -I dts -O dtb "$1" | fdtget -t x - "$2" memory | {
    read -r high low
    echo $((0x$high << 32 | 0x$low))
  }
}
