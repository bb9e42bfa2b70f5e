#!/bin/sh
# A compiler launcher: runs `nvcc ... -o OBJECT` and keeps what ptxas -v says in OBJECT.ptxas, for
# tools/check_sass.py. On success only the rest of the output is shown.
set -u

object=
previous=
for argument in "$@"; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
[ -n "$object" ] || exec "$@"

"$@" 2>"$object.ptxas"
status=$?
if [ $status -ne 0 ]; then
  cat "$object.ptxas" >&2
  rm -f "$object.ptxas"
  exit $status
fi
# The properties of a kernel are two lines, the second without a prefix of its own.
grep -v -e '^ptxas info' -e 'bytes stack frame' "$object.ptxas" >&2
exit 0
