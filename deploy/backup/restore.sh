#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=deploy/backup/lib.sh
. "$(dirname -- "$(readlink -f -- "$0")")/lib.sh"

usage() {
    cat <<'END'
Usage: restore.sh [--jobs N] DUMP

Restore a dump of backup.sh into a new, empty database, on this cluster or another one; its manifest must lie beside it:

  1. the dump is what the manifest says (SHA-256), and the database is empty;
  2. pg_restore, in one transaction;
  3. the log gets a new id (`cqar database new-log`): every client will load everything anew and mix nothing;
  4. `cqar migrate`, if this cqar is newer than the dump;
  5. every table has the rows of the manifest, and the change log is whole up to the clock (`cqar database check`).

Then let the servers use the database. API tokens come back as they were: revoke those again that were revoked since.

  --jobs N       restore with N connections instead of one transaction: faster; drop the database if it fails

Environment:
  CQAR_DATABASE  the empty database, postgresql://user:password@host/name; what is missing in it comes from libpq's variables
                 (PGHOST, PGUSER, PGPASSFILE, PGSERVICE, …). The password is on no command line.
  PG_BIN         folder of pg_restore, pg_dump and vacuumdb, if not in PATH; not older than those that made the dump
  CQAR           the program cqar, if not in PATH

Example:
  createdb --host=db2 --username=postgres --owner=cqar --template=template0 --encoding=UTF8 --locale=C cqar
  CQAR_DATABASE=postgresql://cqar@db2/cqar restore.sh /var/backups/cqar/cqar-20261124T031700Z-00000000000000012345.dump
END
}

how=(--single-transaction)
while (($#)); do
    case $1 in
        -h | --help) usage && exit ;;
        --jobs) [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || die "--jobs: give a number from 1 on" && how=("--jobs=$2") && shift ;;
        -*) die "$1: no such option; see --help" ;;
        *) break ;;
    esac
    shift
done
(($# == 1)) || die "give the one dump to restore; see --help"
dump=$1
manifest=${dump%.dump}.json
need pg_restore pg_dump vacuumdb sha256sum "$CQAR"
connect

[[ -r $dump ]] || die "$dump: there is no such file, or it cannot be read"
[[ -r $manifest ]] || die "$manifest: there is no manifest: backup.sh did not finish this dump"
wanted=$(sed -n 's/^  "sha256": "\(.*\)",$/\1/p' "$manifest")
sum=$(sha256sum "$dump")
[[ -n $wanted && ${sum%% *} == "$wanted" ]] || die "$dump: damaged: it is not the dump that $manifest describes"

schema=$(pg_dump --schema-only "$url")
! grep -qE '^CREATE (UNLOGGED )?(TABLE|VIEW|MATERIALIZED VIEW|SEQUENCE|FUNCTION|TYPE) ' <<<"$schema" ||
    die "the database is not empty: make a new one (createdb) and name it by CQAR_DATABASE"

trap 'echo "${0##*/}: not complete: do not let a server use this database; drop it and begin again" >&2' EXIT
pg_restore --exit-on-error --no-owner --no-privileges "${how[@]}" --dbname="$url" "$dump"
"$CQAR" database new-log --yes # nobody else knows a database that was empty; a server that waits for it may be there
"$CQAR" migrate
"$CQAR" database check --against "$manifest" >/dev/null
vacuumdb --analyze-only --quiet --dbname="$url"
trap - EXIT
echo "restored: ready for servers. Revoke again what API tokens were revoked since (cqar token list, cqar token revoke)."
