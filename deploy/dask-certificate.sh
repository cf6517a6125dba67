#!/bin/sh
# Makes FILE, a key and its certificate in one, by which Dask's scheduler, workers and clients know each other; one that
# is there is kept:
#   deploy/dask-certificate.sh FILE
set -eu
file=${1:?usage: deploy/dask-certificate.sh FILE}
[ ! -s "$file" ] || exit 0
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=dask \
    -keyout "$file.key" -out "$file.certificate" 2>/dev/null
cat "$file.key" "$file.certificate" > "$file.new"
mv "$file.new" "$file"
rm "$file.key" "$file.certificate"
