#!/usr/bin/env bash
# Unpacks a .deb into a scratch folder and runs the program from there: its dependencies are declared,
# its data is found beside it, it answers.
# usage: check_package.sh FILE.deb
set -euo pipefail

deb=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
dpkg-deb -x "$deb" "$scratch"
program=$scratch/usr/bin/moeopt
"$program" --version >/dev/null
# dpkg-shlibdeps found the packages behind the program's shared libraries.
depends=$(dpkg-deb -f "$deb" Depends)
for package in libc6 libstdc++6 libedit2; do
  grep -qw -- "$package" <<<"$depends" || { echo "$package is not in Depends: $depends" >&2; exit 1; }
done
"$program" plan "$scratch/usr/share/moeopt/models/tiny-moe" --profile conservative >/dev/null
"$program" run "$scratch/usr/share/moeopt/models/tiny-moe" --prompt "The" --max-tokens 4 >/dev/null
echo "package: $(basename "$deb") runs from its own files"
