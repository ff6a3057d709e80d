#!/usr/bin/env bash
# usage: scripts/lint.sh [--deep] [format|shell|tidy]...   (default: all of them)
#
#   format   clang-format would change nothing (scripts/lint.sh --fix lets it)
#   shell    shellcheck finds nothing in the scripts
#   tidy     clang-tidy finds nothing; a file is looked at again only when it, or what it includes, has changed
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib/common.sh"
cd -- "$root"

sources() { find mm arch platform hyp guest tests -name '*.cc' -o -name '*.hh'; }

format() {
  local file status=0
  while read -r file; do
    clang-format-19 "$file" | diff -u --label "$file" --label "$file, formatted" "$file" - || status=1
  done < <(sources)
  return $status
}

shell() {
  local scripts
  mapfile -t scripts < <(find scripts tests .ci guest -type f \( -name '*.sh' -o -path .ci/run -o -path guest/linux/init \))
  shellcheck -x "${scripts[@]}"
}

# translation_units BUILD: each C++ source that the build compiles, followed by what it includes of the project's own, a
# line each.
translation_units() {
  ninja -C "build/$1" -t deps | awk -v root="$root/" '
    /^[^ ]/ { source = "" }
    /^    / {
      file = substr($0, 5)
      if (index(file, root) != 1 || index(file, root "build/") == 1) next
      if (source == "") source = file
      if (source ~ /\.cc$/) files[source] = files[source] " " file
    }
    END { for (source in files) print substr(files[source], 2) }'
}

# The static analyzer goes less deep than by itself, which takes a third of the time: `--deep` does not spare it that.
shallow=(--extra-arg=-Xclang --extra-arg=-analyzer-config --extra-arg=-Xclang --extra-arg=mode=shallow)

# tidy_one BUILD KEY FILE: `build/tidy/KEY` remembers that there was nothing to find.
tidy_one() {
  local report
  if report=$(clang-tidy-19 --quiet "${shallow[@]}" -p "build/$1" "$3" 2>&1); then
    : >"build/tidy/$2"
  else
    printf '%s\n' "$report" | grep -Ev '^[0-9]+ warnings? (and [0-9]+ errors? )?generated|^Suppressed |^Use -header-filter'
    return 1
  fi
}

# jobs: BUILD, KEY and FILE of each source that there is no memory of. What both builds compile counts as the first's.
tidy_jobs() {
  local build source includes key version
  local -A seen=()
  version=$(clang-tidy-19 --version; cat .clang-tidy tests/.clang-tidy CMakePresets.json cmake/*.cmake)
  for build in host armv7-release; do
    while read -r source includes; do
      if [[ ${seen[$source]-} ]]; then continue; fi
      seen[$source]=yes
      # shellcheck disable=SC2086 # the included files are words; the source is among them
      key=$({ echo "$version" "$build" "${shallow[@]}"; cat "$source" $includes; } | sha256sum | cut -d' ' -f1)
      if [[ ! -e build/tidy/$key ]]; then echo "$build $key $source"; fi
    done < <(translation_units "$build")
  done
}

tidy() {
  local preset count jobs
  if [[ ! ${CADASTRE_NO_BUILD-} ]]; then
    for preset in host armv7-release; do build "$preset"; done
  fi
  mkdir -p build/tidy
  jobs=$(tidy_jobs) || return
  if [[ ! $jobs ]]; then return; fi
  count=$(wc -l <<<"$jobs")
  say "clang-tidy on $count files"
  xargs -P 2 -L 1 "$root/scripts/lint.sh" --tidy-one <<<"$jobs"
}

if [[ ${1-} == --deep ]]; then
  export CADASTRE_LINT_DEEP=1
  shift
fi
if [[ ${CADASTRE_LINT_DEEP-} ]]; then shallow=(); fi
case ${1-format} in
  --fix) sources | xargs clang-format-19 -i; exit ;;
  --tidy-one) tidy_one "${@:2}"; exit ;;
esac
if (($# == 0)); then set -- format shell tidy; fi
status=0
for check; do
  case $check in
    format) format || status=1 ;;
    shell) shell || status=1 ;;
    tidy) tidy || status=1 ;;
    *) die 2 "unknown check '$check': there are format, shell and tidy" ;;
  esac
done
exit $status
