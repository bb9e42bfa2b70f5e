#!/usr/bin/env bash
# Unpacks a .deb into a scratch root and runs the program from there: its dependencies are declared,
# its data is found beside it, it answers.
# usage: check_package.sh FILE.deb
set -euo pipefail

deb=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
dpkg-deb -x "$deb" "$scratch"
program=$scratch/usr/bin/moeopt
"$program" --version >/dev/null
# Every shared library that the program needs belongs to a package that the .deb depends on.
depends=$(dpkg-deb -f "$deb" Depends)
ldd "$program" | awk '/=> \//{print $3}' | while read -r library; do
  owner=$(dpkg-query -S "$(realpath "$library")" 2>/dev/null || dpkg-query -S "$(basename "$library")" | head -n 1)
  owner=${owner%%:*}
  case $owner in libc6 | libgcc-s1 | libstdc++6) ;; esac
  grep -qw -- "$owner" <<<"$depends" || apt-cache depends --recurse --no-suggests --no-recommends \
    libc6 libstdc++6 $(sed 's/([^)]*)//g; s/,/ /g; s/|/ /g' <<<"$depends") 2>/dev/null | grep -qw -- "$owner" ||
    { echo "$library comes from $owner, which the package does not depend on: $depends" >&2; exit 1; }
done
"$program" plan "$scratch/usr/share/moeopt/models/tiny-moe" --profile conservative >/dev/null
"$program" run "$scratch/usr/share/moeopt/models/tiny-moe" --prompt "The" --max-tokens 4 >/dev/null
echo "package: $(basename "$deb") runs from its own files"
