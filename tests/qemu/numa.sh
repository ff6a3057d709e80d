#!/usr/bin/env bash
# Two NUMA nodes: the boot log says what each of their zones holds, and a guest's RAM comes from the node of its CPU, high
# memory first.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

expect 0 run --batch --numa 2 --memory 6G --smp 2 --append selftest=mm
expect_line '^cadastre: memory: 0x40000000 to 0x100000000, 3072 MiB, node 0' \
  '^cadastre: memory: 0x100000000 to 0x1c0000000, 3072 MiB, node 1' \
  '^cadastre: node 0 zone HighMem .* spanned 262144 present 262144 managed 262144' \
  '^cadastre: node 1 zone HighMem .* spanned 786432 present 786432 managed 786432' \
  '^cadastre: selftest: mm: ok 100000[0-9] operations' '^cadastre: guest linux0: [0-9]+ KiB .* node 0 zone HighMem'
if grep -E '^cadastre: guest linux0: [0-9]+ KiB' "$output" | grep -vq 'node 0 zone HighMem'; then
  fail "RAM that is not of the nearest high memory"
fi

# Half of low memory is CMA's and nobody needs it: where there is no high memory, guests borrow it.
expect 0 run --batch --memory 512M --append cma=256M
expect_line '^cadastre: guest linux0: [0-9]+ KiB .* node 0 zone DMA' '^cadastre: guest linux0: [0-9]+ KiB .* lent by CMA areas'
