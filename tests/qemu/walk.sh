#!/usr/bin/env bash
# walk.sh selftest CPU [SEED]: what the CPU makes of 100,000 random trees of guest tables is what GuestWalk does; the seed is
# a new one each time unless it is given.
# walk.sh guest CONFIGURATION: while the Linux guest of this configuration runs, with one virtual CPU and with two, the CPU and
# GuestWalk agree on its kernel's and its users' addresses; and the kernel's banner is where the kernel's own __virt_to_phys
# has it.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

# offsets REGEX FILE: where it matches, a line each.
offsets() { LC_ALL=C grep -abo -P "$1" "$2" | LC_ALL=C cut -d: -f1; }

# unpack_kernel ZIMAGE OUTPUT: the kernel's image as it runs.
unpack_kernel() {
  local offset
  # The decompressor has such a number too.
  while read -r offset; do
    if tail -c +$((offset + 1)) "$1" | xz -dc --single-stream >"$2" 2>/dev/null; then return; fi
  done < <(offsets '\xfd7zXZ\x00' "$1")
  fail "no kernel in $1"
}

# run_guest CPUS WORDS...: the guest of `dts` with so many CPUs; sets `agree`, `user` and `kernel`, counts of addresses.
run_guest() {
  sed -e "s/cpus = <1>/cpus = <$1>/" -e "s@\.\./build@$root/build@" "$dts" >"$scratch/config.dts"
  expect 0 run --batch --config "$scratch/config.dts" --smp "$1" --append "check=walk ${*:2}"
  expect_line '^\[linux0\] linux-guest: ok$' '^cadastre: audit: ok '
  read -r agree user kernel < <(sed -n \
    "s/^cadastre: walk: \([0-9]*\) addresses of linux0 agree, 0 differ; \([0-9]*\) user's, \([0-9]*\) kernel's, .*/\1 \2 \3/p" \
    "$output") || fail "no line with the counts"
  ((agree >= 5000 && user >= 500 && kernel >= 2000)) || fail "too few addresses: $agree, $user user's, $kernel kernel's"
}

case $1 in
  selftest)
    seed=${3-$((SRANDOM >> 1))}
    expect 0 run --batch --cpu "$2" --config "$root/dts/bare-metal.dts" --append "selftest=walk seed=$seed"
    expect_line "^cadastre: selftest: walk: 100000 trees, seed=$seed$" \
      "^cadastre: selftest: walk: ok HYP's own tables, [0-9]* addresses" \
      '^cadastre: selftest: walk: ok 100000 trees, [0-9]{7,} translations, 0 differ$' '^\[bare0\] bare-metal-guest: ok$'
    (($(grep -c '^cadastre: audit: ok' "$output") == 2)) || fail "not two audits that are ok"
    ;;
  guest)
    dts=$root/dts/$2.dts
    kernel_file=$(dtc -q -I dts -O dtb "$dts" | fdtget -t s - /hypervisor/linux0/kernel file)
    kernel_file=$root/dts/$kernel_file
    unpack_kernel "$kernel_file" "$scratch/image"
    # The first of two is linux_banner; the other one goes away with the kernel's init data.
    read -r banner < <(offsets 'Linux version [0-9]' "$scratch/image")
    text=$(dd if="$scratch/image" bs=1 skip="$banner" count=40 status=none)
    page_offset=$(sed -n 's/^CONFIG_PAGE_OFFSET=//p' "$(dirname -- "$kernel_file")/config")

    # /proc/iomem says where the kernel's first byte is: it begins at PAGE_OFFSET + that - RAM's base.
    run_guest 1
    code=$(sed -n 's/^\[linux0\] linux-guest: kernel code at \(0x[0-9a-f]*\)$/\1/p' "$output")
    [[ $code ]] || fail "no line with the kernel's address"
    ipa=$(printf '0x%x' $((code + banner)))
    address=$(printf '0x%x' $((ipa - 0x40000000 + page_offset)))
    run_guest 2 "walk-address=$address"
    grep -Fq -- "cadastre: walk: linux0: $address is at IPA $ipa, physical " "$output" || fail "$address is not at $ipa"
    grep -F -- "cadastre: walk: linux0: $address " "$output" | grep -Fq -- ": $text" || fail "'$text' is not at $address"
    ;;
  *) fail "no case '$1'" ;;
esac
