#!/usr/bin/env bash
# Puts the hypervisor, the machine's device tree with the guests in it, and the guests' files into one file that U-Boot loads and
# starts with `bootm`: a flattened image tree.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib/common.sh"
. "$root/scripts/lib/config.sh"

help() {
  cat <<'END'
usage: scripts/image.sh [option...] OUTPUT

  --config FILE.dts    the guests and their share of the machine (default: dts/one-linux.dts); file names in it count
                       from its own folder
  --tree FILE.dtb      the board's device tree, and
  --ram ADDRESS        where its RAM begins, if the tree leaves that to U-Boot; or
  --machine NAME       a machine that run.sh knows: virt (default), vexpress-a15 or orangepi-pc
  --memory SIZE        the RAM that the guests' files must fit into, as 512M (default: 1G); on virt, the machine's
  --smp N              the machine's CPUs on virt, 1 to 8 (default: 1)
  --append "WORDS"     added to the hypervisor's command line (/hypervisor bootargs)
  --batch              for a run that nobody sits at, as run.sh's
  --help               this text

The last line it prints is what to do with OUTPUT. docs/u-boot.md is the whole way.

exit status: 0 OUTPUT is made; 2 the configuration was refused; 4 set-up or build failed. OUTPUT is whole, or as it was before.
CADASTRE_NO_BUILD=1 in the environment takes what was built last.
END
}

usage() { die 2 "$* (--help lists the options)"; }

config=$root/dts/one-linux.dts
board=''
tree=''
ram=''
memory=1G
cpus=1
append=''
batch=''
output=''
while (($#)); do
  case $1 in
    --help) help; exit ;;
    --batch) batch=yes; shift; continue ;;
    --config | --tree | --ram | --machine | --memory | --smp | --append) ;;
    -*) usage "unknown option '$1'" ;;
    *)
      if [[ $output ]]; then usage "one OUTPUT, not '$output' and '$1'"; fi
      output=$1
      shift
      continue
      ;;
  esac
  if (($# < 2)); then usage "$1 wants a value"; fi
  case $1 in
    --config) config=$2 ;;
    --tree) tree=$2 ;;
    --ram) ram=$2 ;;
    --machine) board=$2 ;;
    --memory) memory=$2 ;;
    --smp) cpus=$2 ;;
    --append) append=$2 ;;
  esac
  shift 2
done

# ram_of_tree DTB: the address of its first /memory node's first bank that is not empty.
ram_of_tree() {
  local node address_cells size_cells cells bank
  address_cells=$(fdtget -t u -d 2 "$1" / '#address-cells')
  size_cells=$(fdtget -t u -d 1 "$1" / '#size-cells')
  for node in $(fdtget -l "$1" / | grep -E '^memory(@|$)'); do
    read -ra cells <<<"$(fdtget -t u -d '' "$1" "/$node" reg)"
    for ((bank = 0; bank + address_cells + size_cells <= ${#cells[@]}; bank += address_cells + size_cells)); do
      if ((cells[bank + address_cells + size_cells - 1] != 0)); then
        printf '%u\n' "${cells[bank + address_cells - 1]}"
        return
      fi
    done
  done
  return 1
}

if [[ ! $output ]]; then usage "where to? An OUTPUT is missing"; fi
if [[ -d $output || ! -d $(dirname -- "$output") ]]; then usage "'$output' cannot be written: give a file in a folder that is there"; fi
if [[ $config == -* ]]; then config=./$config; fi
if [[ $output == -* ]]; then output=./$output; fi
ram_bytes=$(bytes "$memory") || usage "--memory '$memory' is not a size like 512M or 3G"
[[ $cpus =~ ^[1-8]$ ]] || usage "--smp '$cpus' is not a number from 1 to 8"
if [[ $tree && $board ]]; then usage "--tree and --machine are two answers to one question: give one"; fi
if [[ ! $tree && $ram ]]; then usage "--ram goes with --tree: of the machines that --machine knows it is known"; fi
[[ ! $ram || $ram =~ ^0x[0-9a-fA-F]{1,8}$ ]] || usage "--ram '$ram' is not an address like 0x40000000"

if [[ ! ${CADASTRE_NO_BUILD-} ]]; then
  "$root/scripts/setup.sh" u-boot || exit $status_not_ready
  build armv7-release
fi
command -v mkimage >/dev/null || die $status_not_ready "there is no mkimage: scripts/setup.sh u-boot installs it"

make_scratch
if [[ $tree ]]; then
  [[ -f $tree && -r $tree ]] || refuse "$tree: no such file"
  fdtget -l "$tree" / >/dev/null 2>&1 || refuse "$tree: not a device tree (a .dtb)"
  # shellcheck disable=SC2034 # for config.sh
  board_dtb=$tree
  : "${ram:=$(ram_of_tree "$tree")}"
  if [[ ! $ram ]]; then refuse "$tree says nothing of RAM, which is U-Boot's to fill in: say where it begins with --ram"; fi
  ram_base=$((ram))
else
  choose_machine "${board:=virt}" || usage "--machine '$board' is neither virt, vexpress-a15 nor orangepi-pc"
fi
dtb=$scratch/config.dtb
make_dtb "$config" "$dtb" -m "$memory" -smp "$cpus" -cpu cortex-a15 -nic none
mapfile -t guest_nodes < <(guests "$dtb")
place_modules "$dtb" "$(dirname -- "$config")" "$ram_bytes"
if [[ $batch ]]; then batch_words "$dtb" "${guest_nodes[@]}"; fi
append_words "$dtb" "$append"

# include NAME FILE TYPE ADDRESS [PROPERTY...]: an image of the image tree.
include() {
  printf '%s { description = "%s"; type = "%s"; arch = "arm"; os = "linux"; compression = "none"; load = <0x%x>; %s\n' \
    "$1" "$1" "$3" "$4" "${*:5}"
  # dtc reads a path as a string.
  local path
  path=$(realpath -- "$2")
  path=${path//\\/\\\\}
  printf '  data = /incbin/("%s"); hash-1 { algo = "crc32"; }; };\n' "${path//\"/\\\"}"
}

hypervisor=$((ram_base + kernel_offset))
names=
{
  echo '/dts-v1/; / { description = "Cadastre and its guests"; #address-cells = <1>; images {'
  include hypervisor "$root/build/armv7-release/cadastre.bin" kernel "$hypervisor" "$(printf 'entry = <0x%x>;' "$hypervisor")"
  include tree "$dtb" flat_dt "$dtb_start"
  for index in "${!module_files[@]}"; do
    include "module-$index" "${module_files[index]}" firmware "${module_addresses[index]}"
    names+=", \"module-$index\""
  done
  echo '}; configurations { default = "all"; all { kernel = "hypervisor"; fdt = "tree";'
  if [[ $names ]]; then echo "loadables = ${names#, };"; fi
  echo '}; }; };'
} >"$scratch/image.its"
mkimage -f "$scratch/image.its" "$scratch/image" >"$scratch/mkimage.log" 2>&1 ||
  { cat -- "$scratch/mkimage.log" >&2; die $status_not_ready "mkimage does not make it (see above)"; }

# U-Boot copies each part out of the file to its place: the file lies behind all of them.
place=$((modules_end > dtb_start + dtb_window ? modules_end : dtb_start + dtb_window))
place=$(((place + (16 << 20) - 1) & ~((16 << 20) - 1)))
size=$(stat -c %s -- "$scratch/image")
if ((place + size > ram_base + ram_bytes)); then
  refuse "$config: its files and the image of them, $((size >> 20)) MiB, do not both fit into RAM of $((ram_bytes >> 20)) MiB: give it more with --memory"
fi
mv -- "$scratch/image" "$output.part" && mv -- "$output.part" "$output"
printf '%s: load it at 0x%x or behind, then: bootm 0x%x\n' "$output" "$place" "$place"
