# From a guest configuration to what QEMU or a boot loader is given: the DTB, and the guests' files in RAM. Source it after
# common.sh.
# shellcheck shell=bash disable=SC2154 # scratch is common.sh's
#
#   RAM base               (64 KiB)   the hypervisor's image, where QEMU puts a kernel
#          + 16 MiB                   modules, page by page upward, in the order of the DTS
#          + min(RAM / 2, 128 MiB)    the DTB, where QEMU puts it for a kernel that looks like Linux; modules keep clear

# shellcheck disable=SC2034 # for who puts it there instead of QEMU
readonly kernel_offset=$((64 << 10))
readonly modules_offset=$((16 << 20))
readonly dtb_offset_limit=$((128 << 20))
readonly dtb_window=$((4 << 20))

refuse() { die 2 "refused: $*"; }

# bytes SIZE: QEMU's way of writing a size of RAM, in bytes; a number alone counts MiB.
bytes() {
  [[ $1 =~ ^([0-9]{1,9})([KMGkmg]?)$ ]] || return
  case ${BASH_REMATCH[2]} in
    [Kk]) echo $((10#${BASH_REMATCH[1]} << 10)) ;;
    [Gg]) echo $((10#${BASH_REMATCH[1]} << 30)) ;;
    *) echo $((10#${BASH_REMATCH[1]} << 20)) ;;
  esac
}

# numa_nodes RAM-BYTES CPUS NODES: what QEMU is told (`numa_arguments`) so that RAM and CPUs are spread evenly.
numa_arguments=()
numa_nodes() {
  local share=$(($1 / $3)) node cpu
  local mask=$((~((2 << 20) - 1)))
  for ((node = 0; node < $3; node++)); do
    # Whole blocks of 2 MiB; the last one has the rest.
    local size=$((node < $3 - 1 ? share & mask : $1 - (share & mask) * ($3 - 1)))
    numa_arguments+=(-object "memory-backend-ram,id=ram$node,size=$size" -numa "node,nodeid=$node,memdev=ram$node")
  done
  for ((cpu = 0; cpu < $2; cpu++)); do
    numa_arguments+=(-numa "cpu,node-id=$((cpu * $3 / $2)),socket-id=0,cluster-id=0,core-id=$cpu,thread-id=0")
  done
}

# choose_machine NAME: what QEMU is told of it (`machine`, the value of its -M, and `board_arguments`), where its RAM begins
# (`ram_base`), and its device tree where QEMU makes none (`board_dtb`).
machine='' board_dtb='' ram_base=0
board_arguments=()
choose_machine() {
  case $1 in
    virt) machine=virt,virtualization=on,gic-version=2,dtb-randomness=off ram_base=$((0x40000000)) ;;
    vexpress-a15)
      machine=vexpress-a15,secure=off,virtualization=on ram_base=$((0x80000000))
      board_dtb=$root/build/boards/vexpress-v2p-ca15-tc1.dtb
      # shellcheck disable=SC2034 # for who starts QEMU
      board_arguments=(-audiodev "none,id=none")
      ;;
    orangepi-pc)
      machine=orangepi-pc ram_base=$((0x40000000))
      board_dtb=$root/build/boards/sun8i-h3-orangepi-pc.dtb
      ;;
    *) return 1 ;;
  esac
}

# make_dtb DTS OUTPUT QEMU-ARGUMENT...: the DTB of the machine, the board's own or the one that QEMU makes of these arguments,
# with the text of DTS after it, so that DTS adds to the machine's tree, and overrides it.
make_dtb() {
  local dts=$1 output=$2 from=$scratch/machine joined=$scratch/joined.dts name
  shift 2
  [[ -r $dts && -f $dts ]] || refuse "$dts: no such file"
  if [[ $board_dtb ]]; then
    cp -- "$board_dtb" "$from.dtb"
  else
    qemu-system-arm -M "$machine,dumpdtb=${from//,/,,}.dtb" "$@" -display none >"$from.log" 2>&1 ||
      { cat -- "$from.log" >&2; die 2 "QEMU does not make such a machine"; }
  fi
  dtc -q -I dtb -O dts -o "$from.dts" "$from.dtb"
  {
    # In a DTS the version comes first, then reservations, then nodes.
    echo '/dts-v1/;'
    sed -n 's@^[[:space:]]*/memreserve/@&@p' "$dts"
    sed 's@^/dts-v1/;@@' "$from.dts"
    # The rest of DTS keeps its line numbers for dtc's messages.
    name=${dts//\\/\\\\}
    printf '#line 1 "%s"\n' "${name//\"/\\\"}"
    sed -e 's@^[[:space:]]*/dts-v1/[[:space:]]*;@@' -e 's@^[[:space:]]*/memreserve/.*@@' "$dts"
  } >"$joined"
  dtc -q -I dts -O dtb -i "$(dirname -- "$dts")" -o "$output" "$joined" || refuse "$dts: dtc does not take it (see above)"
}

# text DTB NODE PROPERTY [DEFAULT]: a property that is a string. One that is something else is none: what it should have been
# the hypervisor says, who looks at everything.
text() { fdtget -t s -d "${4-}" "$1" "$2" "$3" 2>/dev/null || true; }

# add_words DTB NODE WORDS: at the end of the node's bootargs, if they are a string or not there. The node is there.
add_words() {
  local old
  old=$(fdtget -t s -d '' "$1" "$2" bootargs 2>/dev/null) || return 0
  fdtput -t s "$1" "$2" bootargs "${old:+$old }$3"
}

# guests DTB: the paths of the guests' nodes, of either binding; those that a `status` leaves out are not among them.
guests() {
  local parent node compatible
  for parent in /hypervisor /chosen; do
    for node in $(fdtget -l "$1" "$parent" 2>/dev/null); do
      compatible=" $(text "$1" "$parent/$node" compatible) "
      if [[ $compatible == *@(' cadastre,guest '|' xen,domain ')* &&
        $(text "$1" "$parent/$node" status okay) == @(okay|ok) ]]; then
        echo "$parent/$node"
      fi
    done
  done
}

# in_cells COUNT NUMBER: as fdtput -t x takes it.
in_cells() {
  local cell
  for ((cell = $1 - 1; cell >= 0; cell--)); do printf '%x\n' $(($2 >> (32 * cell) & 0xffffffff)); done
}

# place_modules DTB DIRECTORY RAM-BYTES: gives each `file` of a guest an address and tells the DTB (`reg`) and the caller
# (`module_files` and, for each, `module_addresses`; `modules_end`), and the DTB one that is nobody's (`dtb_start`). A name in
# the DTB that is not absolute counts from DIRECTORY.
module_files=() module_addresses=()
dtb_start=0 modules_end=0
place_modules() {
  local dtb=$1 directory=$2 ram_end=$((ram_base + $3)) half=$(($3 / 2))
  local next=$((ram_base + modules_offset)) guest module node file size address_cells size_cells
  dtb_start=$((ram_base + (half < dtb_offset_limit ? half : dtb_offset_limit)))
  for guest in $(guests "$dtb"); do
    # Cadastre's binding has two of each; in Xen's a domain says, one or two.
    address_cells=2 size_cells=2
    if [[ $guest == /chosen/* && $(fdtget -t u -d 2 "$dtb" "$guest" '#address-cells') == 1 ]]; then address_cells=1; fi
    if [[ $guest == /chosen/* && $(fdtget -t u -d 2 "$dtb" "$guest" '#size-cells') == 1 ]]; then size_cells=1; fi
    for module in $(fdtget -l "$dtb" "$guest"); do
      node=$guest/$module
      file=$(text "$dtb" "$node" file)
      if [[ -z $file ]]; then continue; fi
      if [[ $file != /* ]]; then file=$directory/$file; fi
      if [[ ! -f $file || ! -r $file ]]; then refuse "$node ($file): no such file: correct its name"; fi
      size=$(stat -L -c %s -- "$file")
      if ((size == 0)); then refuse "$node ($file): the file is empty: give another one"; fi
      if ((next + size > dtb_start && next < dtb_start + dtb_window)); then next=$((dtb_start + dtb_window)); fi
      if ((next + size > ram_end)); then
        refuse "$node ($file): $size bytes do not fit into the machine's RAM of $(($3 >> 20)) MiB: give it more with --memory"
      fi
      # shellcheck disable=SC2046 # cells are words
      fdtput -t x "$dtb" "$node" reg $(in_cells "$address_cells" "$next") $(in_cells "$size_cells" "$size")
      module_files+=("$file") module_addresses+=("$next")
      next=$(((next + size + 4095) & ~4095))
    done
  done
  # shellcheck disable=SC2034 # for who looks for a place after them
  modules_end=$next
}

# load_modules: what QEMU is told (`loader_arguments`) so that the modules are in RAM where they were placed.
loader_arguments=()
load_modules() {
  local index file
  for index in "${!module_files[@]}"; do
    file=${module_files[index]}
    # A comma in a file name is doubled for QEMU.
    loader_arguments+=(-device "loader,file=${file//,/,,},addr=$(printf '0x%x' "${module_addresses[index]}"),force-raw=on")
  done
}

# append_words DTB WORDS: on the hypervisor's command line, if there are any.
append_words() {
  if [[ ! $2 ]]; then return; fi
  if ! fdtget -p "$1" /hypervisor >/dev/null 2>&1; then
    # All guests are in Xen's binding, or there are none.
    fdtput -p -t s "$1" /hypervisor compatible cadastre,hypervisor
  fi
  add_words "$1" /hypervisor "$2"
}

# batch_words DTB GUEST-NODE...: for a run that nobody sits at: a guest that resets for ever does not keep it from ending, and
# each guest is told.
batch_words() {
  local dtb=$1 node
  shift
  append_words "$dtb" 'batch reset-limit=3'
  for node; do
    if fdtget -p "$dtb" "$node/kernel" >/dev/null 2>&1; then add_words "$dtb" "$node/kernel" cadastre.batch; fi
  done
}
