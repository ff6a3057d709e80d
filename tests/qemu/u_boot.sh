#!/usr/bin/env bash
# u_boot.sh bootm | bootz | orange-pi | refused: docs/u-boot.md's two ways: what is typed at U-Boot's prompt boots the hypervisor and its guests, from
# one file that scripts/image.sh made, or from the parts; and what image.sh says of what it does not take.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"
# shellcheck source=tests/qemu/terminal.sh
. "$(dirname -- "$0")/terminal.sh"

image() { "$root/scripts/image.sh" "$@"; }

# u_boot LINE QEMU-ARGUMENT...: a machine that begins in U-Boot, where this line is typed.
u_boot() {
  local qemu=(qemu-system-arm -m 1G -nic none -display none -monitor none -serial stdio "${@:2}")
  # In the foreground: QEMU asks its terminal for every key, for which one in the background is stopped.
  start "timeout --foreground -k 5 $patience ${qemu[*]}"
  wait_for 'Hit any key'
  type_line ''
  wait_for '=> '
  type_line "$1"
  wait_for 'Starting kernel'
}
virt=(-M "virt,virtualization=on,gic-version=2" -cpu cortex-a15 -smp 2 -bios /usr/lib/u-boot/qemu_arm/u-boot.bin)

# image_at OPTION...: makes the image, in RAM (`in_ram`) where image.sh says (`place`).
image_at() {
  image --config "$scratch/config.dts" --batch "$@" "$scratch/all.itb" | tee "$output"
  place=$(sed -n 's/.* at \(0x[0-9a-f]*\) or behind, then: bootm .*/\1/p' "$output")
  in_ram=(-device "loader,file=$scratch/all.itb,addr=$place,force-raw=on")
}

# The guests of dts/bare-metal.dts and Linux, in both bindings.
{
  echo '/dts-v1/; / { hypervisor { compatible = "cadastre,hypervisor";'
  guest bare bare-metal 2 32M
  echo '}; chosen { linux { compatible = "xen,domain"; #address-cells = <1>; #size-cells = <1>; cpus = <1>; memory = <0 0x18000>; vpl011;'
  echo "module@0 { compatible = \"multiboot,kernel\"; file = \"$root/build/guests/linux/zImage\";"
  echo ' bootargs = "console=ttyAMA0 cadastre.batch"; };'
  echo "module@1 { compatible = \"multiboot,ramdisk\"; file = \"$root/build/guests/linux/initramfs.cpio.gz\"; }; }; }; };"
} >"$scratch/config.dts"

guests_ran_on() {
  wait_for "cadastre: cpus: $1 up"
  wait_for 'cadastre: machine: '
  wait_for 'cadastre: machine: '
  cp "$screen" "$output"
  cat -- "$output"
  expect_line '^\[bare\] bare-metal-guest: ok' '^\[linux\] linux-guest: ok' '^cadastre: audit: ok '
}

case $1 in
  bootm)
    image_at --smp 2
    u_boot "bootm $place" "${virt[@]}" "${in_ram[@]}"
    guests_ran_on 2
    finish
    ;;
  orange-pi)
    # As on the board: its boot ROM loads U-Boot from a card, U-Boot itself is the firmware that starts the other CPUs.
    truncate -s 64M "$scratch/card"
    dd if="$root/build/u-boot/orangepi_plus/u-boot-sunxi-with-spl.bin" of="$scratch/card" bs=1024 seek=8 conv=notrunc status=none
    image_at --tree "$root/build/boards/sun8i-h3-orangepi-pc.dtb" --ram 0x40000000
    u_boot "bootm $place" -M orangepi-pc -drive "file=$scratch/card,format=raw,if=sd" "${in_ram[@]}"
    guests_ran_on 4
    wait_for "stays on: its firmware does not switch it off"
    ;;
  bootz)
    # As run.sh does it, whose QEMU plays the boot loader.
    . "$root/scripts/lib/config.sh"
    choose_machine virt
    make_dtb "$scratch/config.dts" "$scratch/config.dtb" -m 1G -smp 2 -cpu cortex-a15 -nic none
    place_modules "$scratch/config.dtb" "$scratch" $((1 << 30))
    append_words "$scratch/config.dtb" batch
    load_modules
    u_boot 'bootz 0x50000000 - 0x48000000' "${virt[@]}" "${loader_arguments[@]}" \
      -device "loader,file=$root/build/armv7-release/cadastre.bin,addr=0x50000000,force-raw=on" \
      -device "loader,file=$scratch/config.dtb,addr=0x48000000,force-raw=on"
    guests_ran_on 2
    finish
    ;;
  refused)
    boards=$root/build/boards
    # The board's tree says where its RAM begins, or nobody does but the user.
    image --config "$scratch/config.dts" --tree "$boards/vexpress-v2p-ca15-tc1.dtb" "$scratch/all.itb" | tee "$output"
    expect_line ': load it at 0x89000000 or behind, then: bootm 0x89000000$'
    expect 2 image --config "$scratch/config.dts" --tree "$boards/sun8i-h3-orangepi-pc.dtb" "$scratch/none.itb"
    expect_one_reason '.*sun8i-h3-orangepi-pc.dtb says nothing of RAM, which is U-Boot.s to fill in: say where it begins with --ram'
    image --config "$scratch/config.dts" --tree "$boards/sun8i-h3-orangepi-pc.dtb" --ram 0x40000000 "$scratch/all.itb" | tee "$output"
    expect_line ': load it at 0x49000000 or behind'
    expect 2 image --config "$scratch/config.dts" --tree "$scratch/config.dts" "$scratch/none.itb"
    expect_one_reason '.*config.dts: not a device tree'
    expect 2 image --config "$scratch/config.dts" --memory 16M "$scratch/none.itb"
    expect_one_reason '.* bytes do not fit into the machine.s RAM of 16 MiB'
    expect 2 image --config "$scratch/config.dts" --memory 36M "$scratch/none.itb"
    expect_one_reason '.* do not both fit into RAM of 36 MiB: give it more with --memory'
    expect 2 image --machine virtual "$scratch/none.itb"
    expect 2 image --config "$scratch/config.dts"
    expect 2 image --config "$scratch/config.dts" "$scratch/no/such/folder"
    [[ ! -e $scratch/none.itb ]] || fail "there is an image of what was refused"
    ;;
esac
