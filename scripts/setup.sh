#!/usr/bin/env bash
# Installs what building, running and testing need, and fetches the guests. Everything comes from Debian 12's packages
# by name; what is there already is left alone, so a second run returns at once.
#
# usage: scripts/setup.sh [linux-lpae | bench | u-boot]    the guest that is named, what bench.sh --host compares with, or what
#                                                          makes and tries an image for U-Boot, besides what everybody needs
#
#   build/downloads          the armhf packages, as they came
#   build/sysroot            what of them the hypervisor is linked with
#   build/guests/linux       zImage, config, modules and initramfs.cpio.gz of the Linux guest
#   build/guests/linux-lpae  the same but for the initramfs, of the kernel whose tables are LPAE's
#   build/boards             the device trees of boards that the kernel knows
#   build/u-boot             U-Boot for boards with an Allwinner H3
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib/common.sh"

host_packages=(
  # building
  clang-19 lld-19 llvm-19 libc++-19-dev libclang-rt-19-dev libnewlib-dev libfdt-dev g++ cmake ninja-build
  # running
  qemu-system-arm device-tree-compiler cpio
  # testing
  qemu-user g++-arm-linux-gnueabihf doctest-dev libbenchmark-dev clang-format-19 clang-tidy-19 shellcheck xz-utils
)
# The allocators that bench.sh --host compares with.
if [[ ${1-} == bench ]]; then host_packages+=(libjemalloc2 libmimalloc2.0); fi
# What makes an image that U-Boot loads (mkimage), and a U-Boot to try it with.
if [[ ${1-} == u-boot ]]; then host_packages+=(u-boot-tools u-boot-qemu); fi
# libnewlib-arm-none-eabi is for every ARM and takes 0.4 GB installed; one archive of it is enough.
sysroot_packages=(libfdt-dev libclang-rt-19-dev libnewlib-arm-none-eabi)
sysroot_files=(
  ./usr/lib/arm-linux-gnueabihf/libfdt.a
  ./usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.builtins-armhf.a
  ./usr/lib/arm-none-eabi/newlib/thumb/v7-a/nofp/libc.a
)

apt_options=(-o DPkg::Lock::Timeout=300)
# A package system of the project's own for armhf: no change to the machine's, no root.
armhf_options=(
  -o APT::Architecture=armhf -o APT::Architectures=armhf
  -o "Dir::State::Lists=$root/build/apt/lists" -o "Dir::Cache=$root/build/apt/cache" -o Dir::State::status=/dev/null
  -o Debug::NoLocking=1 -o APT::Sandbox::User=root -o Acquire::Languages=none
)

missing_host_packages() {
  comm -23 <(printf '%s\n' "${host_packages[@]}" | sort) \
    <(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${host_packages[@]}" 2>/dev/null |
      sed -n 's/ installed$//p' | sort -u)
}

install_host_packages() {
  local missing as_root=()
  mapfile -t missing < <(missing_host_packages)
  if ((${#missing[@]} == 0)); then return; fi
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      die $status_not_ready "these packages are missing, and without root or sudo they cannot be installed from here;" \
        "as root, run: apt-get update && apt-get install --no-install-recommends ${missing[*]}"
    fi
    as_root=(sudo)
  fi
  say "installing with apt-get: ${missing[*]}"
  # A source that does not answer is no harm if another one has the packages: the installation will tell.
  "${as_root[@]}" apt-get "${apt_options[@]}" update -qq || say "apt-get update had errors; going on with what it has"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get "${apt_options[@]}" install -y -qq --no-install-recommends "${missing[@]}" >"$root/build/apt-install.log" 2>&1 ||
    { tail -n 20 "$root/build/apt-install.log" >&2; die $status_not_ready "apt-get install failed (all of its output: build/apt-install.log)"; }
}

# Once a run, and only if something must be fetched.
armhf_lists_fresh=
update_armhf_lists() {
  if [[ -n $armhf_lists_fresh ]]; then return; fi
  mkdir -p "$root"/build/apt/{lists,cache/archives}/partial
  apt-get "${armhf_options[@]}" update -qq >"$root/build/apt/update.log" 2>&1 || true
  armhf_lists_fresh=yes
}

# fetch PACKAGE: build/downloads/PACKAGE.deb, checked by apt against the signed lists, complete or not there.
fetch() {
  local package=$1 file=$root/build/downloads/$1.deb
  if [[ -e $file ]]; then return; fi
  update_armhf_lists
  say "downloading $package:armhf"
  mkdir -p "$root/build/downloads" "$scratch/fetch"
  (cd "$scratch/fetch" && apt-get "${armhf_options[@]}" download -qq "$package") ||
    die $status_not_ready "apt-get could not download $package:armhf (update's output: build/apt/update.log)"
  # The scratch directory may be on another file system, where a rename would be a copy.
  mv -- "$scratch"/fetch/*.deb "$file.part"
  mv -- "$file.part" "$file"
}

# unpack PACKAGE DIRECTORY MEMBER...: members of the package, by name or pattern.
unpack() {
  dpkg --fsys-tarfile "$root/build/downloads/$1.deb" | tar -x -C "$2" --no-same-owner --wildcards "${@:3}"
}

# replace DIRECTORY: DIRECTORY.new becomes DIRECTORY.
replace() {
  rm -rf -- "$1.old"
  if [[ -e $1 ]]; then mv -- "$1" "$1.old"; fi
  mv -- "$1.new" "$1"
  rm -rf -- "$1.old"
}

# A directory is made anew when what it was made from changes: `made-from` says what that was.
is_made_from() { [[ -e $1/made-from && $(<"$1/made-from") == "$2" ]]; }

make_sysroot() {
  local sysroot=$root/build/sysroot recipe package
  recipe="${sysroot_packages[*]}: ${sysroot_files[*]}"
  if is_made_from "$sysroot" "$recipe"; then return; fi
  for package in "${sysroot_packages[@]}"; do fetch "$package"; done
  say "unpacking build/sysroot"
  rm -rf -- "$sysroot.new"
  mkdir -p "$sysroot.new"
  for package in "${!sysroot_packages[@]}"; do
    unpack "${sysroot_packages[package]}" "$sysroot.new" "${sysroot_files[package]}"
  done
  printf '%s\n' "$recipe" >"$sysroot.new/made-from"
  replace "$sysroot"
}

# fetch_kernel META FILE: the meta package's first dependency is the kernel: build/downloads/FILE.deb.
fetch_kernel() {
  local image
  if [[ ! -e $root/build/downloads/$2.deb ]]; then
    update_armhf_lists
    image=$(apt-cache "${armhf_options[@]}" depends "$1" | sed -n 's/^ *Depends: //p' | head -n 1)
    if [[ -z $image ]]; then die $status_not_ready "apt-cache does not know $1:armhf (see build/apt/update.log)"; fi
    fetch "$image"
    mv -- "$root/build/downloads/$image.deb" "$root/build/downloads/$2.deb"
  fi
}

# unpack_kernel FILE GUEST-DIRECTORY
unpack_kernel() {
  mkdir -p "$2/package"
  unpack "$1" "$2/package" './boot/*' './lib/modules/*/modules.*' './lib/modules/*/kernel/drivers/virtio/*'
  mv "$2"/package/boot/vmlinuz-* "$2/zImage"
  mv "$2"/package/boot/config-* "$2/config"
  mv "$2"/package/lib/modules "$2/modules"
  rm -r -- "$2/package"
}

make_linux_guest() {
  local guest=$root/build/guests/linux recipe="boot, virtio modules, busybox"
  if is_made_from "$guest" "$recipe"; then return; fi
  fetch_kernel linux-image-armmp linux-image
  fetch busybox-static
  say "unpacking build/guests/linux"
  rm -rf -- "$guest.new"
  unpack_kernel linux-image "$guest.new"
  unpack busybox-static "$guest.new" ./bin/busybox
  mv "$guest.new/bin/busybox" "$guest.new/busybox"
  rmdir -- "$guest.new/bin"
  printf '%s\n' "$recipe" >"$guest.new/made-from"
  replace "$guest"
}

make_linux_lpae_guest() {
  local guest=$root/build/guests/linux-lpae recipe="boot, virtio modules"
  if is_made_from "$guest" "$recipe"; then return; fi
  fetch_kernel linux-image-armmp-lpae linux-image-lpae
  say "unpacking build/guests/linux-lpae"
  rm -rf -- "$guest.new"
  unpack_kernel linux-image-lpae "$guest.new"
  printf '%s\n' "$recipe" >"$guest.new/made-from"
  replace "$guest"
}

# The device trees of boards, as Debian's kernel package has them.
make_boards() {
  local boards=$root/build/boards recipe="device trees"
  if is_made_from "$boards" "$recipe"; then return; fi
  fetch_kernel linux-image-armmp linux-image
  say "unpacking build/boards"
  rm -rf -- "$boards.new"
  mkdir -p "$boards.new/package"
  unpack linux-image "$boards.new/package" './usr/lib/linux-image-*/*.dtb'
  mv "$boards.new"/package/usr/lib/linux-image-*/*.dtb "$boards.new"
  rm -r -- "$boards.new/package"
  printf '%s\n' "$recipe" >"$boards.new/made-from"
  replace "$boards"
}

# Debian has none of this name for the Orange Pi PC; that of its bigger sister, of the same chip, starts on it.
make_u_boot() {
  local u_boot=$root/build/u-boot recipe="orangepi_plus"
  if is_made_from "$u_boot" "$recipe"; then return; fi
  fetch u-boot-sunxi
  say "unpacking build/u-boot"
  rm -rf -- "$u_boot.new"
  mkdir -p "$u_boot.new/package"
  unpack u-boot-sunxi "$u_boot.new/package" './usr/lib/u-boot/orangepi_plus/*.bin'
  mv "$u_boot.new"/package/usr/lib/u-boot/* "$u_boot.new"
  rm -r -- "$u_boot.new/package"
  printf '%s\n' "$recipe" >"$u_boot.new/made-from"
  replace "$u_boot"
}

# The same input gives the same archive: fixed times, owner, order. /dev/console comes with the kernel's own archive,
# so nothing here needs root.
make_initramfs() {
  local guest=$root/build/guests/linux init=$root/guest/linux/init
  local archive=$guest/initramfs.cpio.gz
  if [[ $archive -nt $init && $archive -nt $guest/busybox ]]; then return; fi
  mkdir -p "$scratch"/initramfs/{bin,dev,proc,sys,tmp}
  install -m 755 "$guest/busybox" "$scratch/initramfs/bin/busybox"
  install -m 755 "$init" "$scratch/initramfs/init"
  find "$scratch/initramfs" -exec touch -d @0 {} +
  (cd "$scratch/initramfs" && find . -mindepth 1 -printf '%P\n' | LC_ALL=C sort |
    cpio --quiet --create --format=newc --owner=0:0 --reproducible) | gzip -9n >"$archive.part"
  mv -- "$archive.part" "$archive"
}

set_up() {
  install_host_packages
  make_sysroot
  make_linux_guest
  make_boards
  make_initramfs
  if [[ ${1-} == linux-lpae ]]; then make_linux_lpae_guest; fi
  if [[ ${1-} == u-boot ]]; then make_u_boot; fi
}

if [[ ${1-} == --help ]]; then
  sed -n '2,13s/^# \{0,1\}//p' "$0"
  exit
fi
if ! command -v apt-get >/dev/null; then die $status_not_ready "this needs Debian 12 (apt-get and dpkg)"; fi
if (($# > 1)) || [[ ${1-bench} != @(linux-lpae|bench|u-boot) ]]; then die $status_not_ready "nothing to set up is called '$*' (--help)"; fi
make_scratch
locked setup set_up "$@"
