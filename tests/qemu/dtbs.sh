#!/usr/bin/env bash
# dtbs.sh CASE: the hypervisor is started on a DTB that is damaged, or describes a machine that cannot be, or in the wrong
# mode; it says why it does not go on, in one line, and switches the machine off.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"
# shellcheck source=scripts/lib/verdict.sh
. "$root/scripts/lib/verdict.sh"

binaries=$root/build/armv7-release
machine=virt,virtualization=on,gic-version=2
dtb=$scratch/machine.dtb
case $1 in
  load-address) hardware=(-m 3G -smp 2) ;; # to 4 GiB
  cpu-absent) hardware=(-m 512M -smp 3) ;;
  *) hardware=(-m 512M) ;;
esac
qemu=(qemu-system-arm -cpu cortex-a15 "${hardware[@]}" -nic none -display none -monitor none -serial stdio)
load=0x40200000

# start DTB: as it is, at 0x4400'0000. Without a kernel, QEMU puts a DTB of its own into the first MiB of RAM.
start() {
  local status=0
  run_batch "${seconds:-$patience}" "${qemu[@]}" -M "$machine" \
    -device "loader,file=$binaries/tests/qemu/shim.bin,addr=0x40100000,cpu-num=0,force-raw=on" \
    -device "loader,addr=0x40100ffc,data=$load,data-len=4" \
    -device "loader,file=$binaries/cadastre.bin,addr=$load,force-raw=on" \
    -device "loader,file=$kernel,addr=0x40180000,force-raw=on" \
    -device "loader,file=$1,addr=0x44000000,force-raw=on" || status=$?
  verdict "$status" it
}

# QEMU's own DTB with a guest, 16 MiB, of which each case damages something.
"${qemu[@]}" -M "$machine,dumpdtb=$dtb" 2>/dev/null
memory=/memory@40000000
kernel=$binaries/guest/bare-metal.bin
fdtput -p -t s "$dtb" /hypervisor/it/kernel file bare-metal.bin
fdtput -t x "$dtb" /hypervisor/it/kernel reg 0 40180000 0 "$(printf '%x' "$(stat -c %s "$kernel")")"
fdtput -t s "$dtb" /hypervisor compatible cadastre,hypervisor
fdtput -t s "$dtb" /hypervisor/it compatible cadastre,guest
fdtput -t x "$dtb" /hypervisor/it memory 0 1000000

case $1 in
  undamaged)
    expect 0 start "$dtb"
    expect_line '^bare-metal-guest: ok' '^cadastre: guest it: powered off'
    ;;
  bad-magic)
    printf '\0\0\0\0' | dd of="$dtb" conv=notrunc status=none
    # No tree, no console, and no firmware: no address of a machine that is not known is written to.
    seconds=10
    expect 124 start "$dtb"
    ! grep -q . <(grep -v '^qemu-system-arm: terminating' "$output") || fail 'something was said'
    ;;
  truncated)
    # Without its strings nobody finds a console in it.
    head -c 3000 "$dtb" >"$dtb.short"
    seconds=10
    expect 124 start "$dtb.short"
    ! grep -q . <(grep -v '^qemu-system-arm: terminating' "$output") || fail 'something was said'
    ;;
  broken)
    # The structure does not end where it ends; the console is found all the same.
    structure=$(od -An -j8 -N4 --endian=big -t u4 "$dtb") size=$(od -An -j36 -N4 --endian=big -t u4 "$dtb")
    end=$((structure + size - 4))
    printf '\0\0\0\5' | dd of="$dtb" bs=1 seek="$end" conv=notrunc status=none
    expect 2 start "$dtb"
    expect_one_reason 'device tree: broken'
    ;;
  no-memory)
    fdtput -r "$dtb" "$memory"
    expect 2 start "$dtb"
    expect_one_reason '/memory'
    ;;
  empty-memory)
    fdtput -t x "$dtb" "$memory" reg 0 40000000 0 0
    expect 2 start "$dtb"
    expect_one_reason '/memory: '
    ;;
  overlapping-memory)
    fdtput -c "$dtb" /memory@50000000
    fdtput -t s "$dtb" /memory@50000000 device_type memory
    fdtput -t x "$dtb" /memory@50000000 reg 0 50000000 0 20000000
    expect 2 start "$dtb"
    expect_one_reason '/memory@'
    ;;
  wrong-reg)
    fdtput -t x "$dtb" "$memory" reg 40000000 0 20000000
    expect 2 start "$dtb"
    expect_one_reason "$memory: "
    ;;
  wrong-cells)
    # No address of any device can be read, that of the console neither.
    fdtput -t x "$dtb" / '#address-cells' 7
    expect 3 start "$dtb"
    ! grep -q . <(grep -v '^qemu-system-arm: terminating' "$output") || fail 'something was said'
    ;;
  too-little-memory)
    # Besides the image, which lies at 0x4020'0000: a page, then not enough for frames and the first slabs.
    for size in 1000 8000; do
      fdtput -t x "$dtb" "$memory" reg 0 40000000 0 "$size"
      expect 2 start "$dtb"
      expect_one_reason '/memory'
    done
    ;;
  console-elsewhere)
    # Not where virt's is, by an alias with options, and what interrupt it has is not known: the guest has no input.
    fdtput -p -t s "$dtb" /aliases serial1 /pl011@9000000
    fdtput -t s "$dtb" /chosen stdout-path serial1:115200n8
    fdtput -d "$dtb" /pl011@9000000 interrupts
    expect 0 start "$dtb"
    expect_line '^cadastre: console: /pl011@9000000: .* no input'
    ;;
  console-unknown)
    # Nothing is said there, and nowhere else: least of all where another machine has its UART. The guest runs all the same,
    # as its exceptions to HYP mode show, to the machine's end.
    fdtput -t s "$dtb" /pl011@9000000 compatible acme,uart
    qemu+=(-d int -D "$scratch/exceptions")
    expect 3 start "$dtb"
    ! grep -q . "$output" || fail 'something was said'
    (($(grep -c '^\.\.\.from EL1 to EL2' "$scratch/exceptions") > 10)) || fail 'no guest ran'
    ;;
  load-address)
    # Wherever it is, in its own addresses and those of its fixmap too, it and its other CPU come to where they are linked.
    for load in 0x40204000 0x7fe00000 0x80000000 0xc0000000 0xfe000000 0xfe200000 0xfe400000 0xff000000 0xff010000 0xff200000 \
      0xffe00000; do
      expect 0 start "$dtb"
      expect_line '^cadastre: cpus: 2 up' '^bare-metal-guest: ok' '^cadastre: audit: ok '
    done
    ;;
  cpu-absent)
    # The first CPU in the tree is none that firmware knows, and the one that boots is not the first.
    fdtput -t x "$dtb" /cpus/cpu@0 reg 100
    fdtput -t x "$dtb" /cpus/cpu@1 reg 0
    fdtput -t x "$dtb" /cpus/cpu@2 reg 1
    expect 0 start "$dtb"
    expect_line '^cadastre: cpu 0x100: left off: PSCI error' '^cadastre: cpus: 2 up' '^bare-metal-guest: ok'
    ;;
  refused-without-psci)
    # Nobody switches it off: it waits, and takes no exception.
    fdtput -r "$dtb" /psci
    fdtput -r "$dtb" "$memory"
    qemu+=(-d int -D "$scratch/exceptions")
    expect 2 start "$dtb"
    expect_one_reason '/memory'
    expect_line '^cadastre: machine: stays on'
    ! grep -q . "$scratch/exceptions" || fail 'exceptions were taken'
    ;;
  small-cpu-interface)
    read -ra reg < <(fdtget -t x "$dtb" /intc@8000000 reg)
    reg[7]=1000
    fdtput -t x "$dtb" /intc@8000000 reg "${reg[@]}"
    expect 0 start "$dtb"
    expect_line '^cadastre: gic: the CPU interface at 0x8010000 .*8 KiB' '^bare-metal-guest: ok'
    ;;
  disabled-timer)
    # Which the machine has all the same; and its frequency is what the tree says.
    fdtput -t s "$dtb" /timer status disabled
    fdtput -t i "$dtb" /timer clock-frequency 62500000
    expect 0 start "$dtb"
    expect_line '^bare-metal-guest: ok'
    ;;
  svc-mode)
    # On such a machine PSCI is called by HVC.
    machine=virt,gic-version=2
    fdtput -t s "$dtb" /psci method hvc
    expect 2 start "$dtb"
    expect_one_reason 'CPU: '
    ;;
  *) fail "no such case: $1" ;;
esac
