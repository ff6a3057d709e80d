#!/usr/bin/env bash
# walk.sh selftest CPU [SEED]: what the CPU makes of 100,000 random trees of guest tables is what GuestWalk does; the seed is
# a new one each time unless it is given.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

case $1 in
  selftest)
    seed=${3-$((SRANDOM >> 1))}
    expect 0 run --batch --timeout 500 --cpu "$2" --config "$root/dts/bare-metal.dts" --append "selftest=walk seed=$seed"
    expect_line "^cadastre: selftest: walk: 100000 trees, seed=$seed$" \
      "^cadastre: selftest: walk: ok HYP's own tables, [0-9]* addresses" \
      '^cadastre: selftest: walk: ok 100000 trees, [0-9]{7,} translations, 0 differ$' '^\[bare0\] bare-metal-guest: ok$'
    (($(grep -c '^cadastre: audit: ok' "$output") == 2)) || fail "not two audits that are ok"
    ;;
  *) fail "no case '$1'" ;;
esac
