#!/usr/bin/env bash
# The table of docs/boards.md: how the tree of each board that Debian's kernel knows fares with the reader.
set -euo pipefail
export LC_ALL=C # one order of names
# shellcheck source=scripts/lib/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib/common.sh"

help() {
  cat <<'END'
usage: scripts/boards.sh [--check | --tree FILE.dtb...]

  --check          write nothing; exit status 1, with the difference, when the table is not what the reader says
  --tree FILE...   the same for these trees only, on standard output
  --help           this text
END
}

readonly page=$root/docs/boards.md
readonly mark='<!-- scripts/boards.sh writes what follows -->'

case ${1-} in
  --help) help; exit ;;
  '' | --check | --tree) ;;
  *) die 2 "unknown option '$1' (--help lists the options)" ;;
esac

if [[ ! ${CADASTRE_NO_BUILD-} ]]; then
  "$root/scripts/setup.sh" || exit $status_not_ready
  build host board_table
fi
table=$root/build/host/tests/trees/board_table

if [[ ${1-} == --tree ]]; then
  exec "$table" "${@:2}"
fi

trees=$root/build/boards
kernel=$(basename -- "$root"/build/guests/linux/modules/*) # of the package that the trees are from
make_scratch
grep -qxF -- "$mark" "$page" || die $status_not_ready "docs/boards.md has no line '$mark'"
{
  sed "\\|^$mark\$|q" "$page"
  echo "From Linux $kernel."
  "$table" "$trees"/*.dtb || die 1 "the reader does not survive these trees"
} >"$scratch/page"

# The boards that a page accepts.
accepted() { sed -n 's/^| \([^ ]*\) .*| accepted |$/\1/p' "$1" | sort; }

if [[ ${1-} != --check ]]; then
  cp -- "$scratch/page" "$page"
elif grep -qxF -- "From Linux $kernel." "$page"; then
  diff -u -- "$page" "$scratch/page" || die 1 "docs/boards.md is not what the reader says: run scripts/boards.sh"
else
  # Debian has another kernel now, whose trees may differ: none that is still there may be lost by that.
  say "docs/boards.md is of other trees than these of $kernel"
  for name in $(comm -23 <(accepted "$page") <(accepted "$scratch/page")); do
    if [[ -e $trees/$name.dtb ]]; then die 1 "$name was accepted once, and is no more: scripts/boards.sh --tree $trees/$name.dtb"; fi
  done
fi
