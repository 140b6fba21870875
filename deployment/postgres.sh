#!/bin/sh
# A PostgreSQL of one's own in a folder, for tests and for trying the deployment. Not for production: it asks nobody
# for a password and does not wait for the disk.
#
#   deployment/postgres.sh start FOLDER    makes the cluster where it is missing, starts it and prints how to reach it
#   deployment/postgres.sh stop FOLDER     stops it; its data stay in FOLDER
#
# Only the socket in FOLDER is listened on, which nobody but its owner can reach. PostgreSQL refuses to run as root: for
# root it runs as the user postgres, who has to be able to reach FOLDER.
set -eu

usage() { sed -n 's/^#   //p' "$0" >&2; exit 2; }
refuse() { echo "$*" >&2; exit 1; }

[ $# -eq 2 ] || usage
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -n "$bin" ] || refuse "PostgreSQL is not installed: apt-get install --no-install-recommends postgresql"

mkdir -p "$2"
folder=$(cd "$2" && pwd -P)
me=$(id -un)
socket=$folder/socket
# The kernel takes no longer name of a socket than 107 bytes.
[ "$(printf %s "$socket/.s.PGSQL.5432" | wc -c)" -le 107 ] || refuse "The path $folder is too long for a socket."

as_owner() { "$@"; }
if [ "$(id -u)" -eq 0 ]; then
  as_owner() { setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/ "$@"; }
  chown postgres:postgres "$folder"
  as_owner test -w "$folder" || refuse "The user postgres cannot reach $folder: choose a folder below /tmp."
fi
cd /

case $1 in
  start)
    if ! as_owner test -f "$folder/data/PG_VERSION"; then
      as_owner mkdir -p -m 700 "$folder/data" "$socket"
      as_owner "$bin/initdb" --pgdata "$folder/data" --username "$me" --auth trust --encoding UTF8 --no-locale \
        --no-sync --no-instructions >/dev/null
      printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$socket'" 'unix_socket_permissions = 0700' \
        'fsync = off' 'logging_collector = off' | as_owner tee -a "$folder/data/postgresql.conf" >/dev/null
    fi
    as_owner "$bin/pg_ctl" status --pgdata "$folder/data" >/dev/null ||
      as_owner "$bin/pg_ctl" start --wait --silent --pgdata "$folder/data" --log "$folder/postgres.log" >/dev/null ||
      refuse "PostgreSQL did not start: see $folder/postgres.log"
    export PGHOST="$socket" PGPORT=5432 PGUSER="$me" PGDATABASE=cmhs
    [ "$("$bin/psql" -d postgres -qtAc "select count(*) from pg_database where datname = 'cmhs'")" = 1 ] ||
      "$bin/createdb" -T template0 cmhs
    for name in PGHOST PGPORT PGUSER PGDATABASE; do eval "echo \"export $name='\$$name'\""; done
    ;;
  stop)
    as_owner "$bin/pg_ctl" stop --wait --silent --mode fast --pgdata "$folder/data"
    ;;
  *) usage ;;
esac
