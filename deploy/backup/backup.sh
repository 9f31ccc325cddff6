#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=deploy/backup/lib.sh
. "$(dirname -- "$(readlink -f -- "$0")")/lib.sh"

usage() {
    cat <<'END'
Usage: backup.sh [--keep N] FOLDER

Dump a CQAR database, while servers run on it, into FOLDER:

  cqar-<time, UTC>-<position>.dump   the dump, of one moment, in pg_dump's custom format
  cqar-<time, UTC>-<position>.json   its manifest, written last: log id, position, SHA-256, rows of each table

The dump is read back in full before the manifest is written: what has a manifest can be restored. It holds everything: records,
change log, audit trail, and the API tokens (hashes of their secrets). Keep it as you keep the database.

  --keep N       then remove all but the newest N backups of FOLDER (default: keep all)

Environment:
  CQAR_DATABASE  postgresql://user:password@host/name; what is missing in it comes from libpq's variables (PGHOST, PGUSER,
                 PGPASSFILE, PGSERVICE, …). The password is on no command line.
  PG_BIN         folder of pg_dump and pg_restore, if not in PATH; not older than the server's

Examples:
  CQAR_DATABASE=postgresql://cqar@db/cqar PGPASSFILE=/etc/cqar/pgpass backup.sh --keep 14 /var/backups/cqar
  17 3 * * *  cqar  . /etc/cqar/server.env; export CQAR_DATABASE; /opt/cqar/backup/backup.sh --keep 14 /var/backups/cqar     (cron.d)
END
}

# Print `position`, `chain`, `log_id`, `newest` and `rows` of a dump, as lines NAME VALUE, from the SQL that it is restored by.
contents() {
    awk -F '\t' '
        /^\\\.$/ && table { table = ""; next }
        table {
            rows[table]++
            if (table == "clock") { print "log_id", $of["log_id"]; print "position", $of["position"]; print "chain", substr($of["chain"], 4) }
            if (table == "batches" && $of["position"] + 0 > newest) newest = $of["position"] + 0
            next
        }
        match($0, /^COPY [^ ]+ \(.*\) FROM stdin;$/) {
            split($0, words, " "); table = words[2]; sub(/^.*\./, "", table); rows[table] = 0
            columns = $0; sub(/^[^(]*\(/, "", columns); sub(/\) FROM stdin;$/, "", columns); gsub(/"/, "", columns)
            delete of; count = split(columns, names, ", ")
            for (i = 1; i <= count; i++) of[names[i]] = i
        }
        END { print "newest", newest + 0; for (table in rows) print "rows." table, rows[table] }
    '
}

# Give one value of `contents`.
value() {
    sed -n "s/^$1 //p" <<<"$found"
}

keep=0
while (($#)); do
    case $1 in
        -h | --help) usage && exit ;;
        --keep) [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || die "--keep: give a number from 1 on" && keep=$2 && shift ;;
        -*) die "$1: no such option; see --help" ;;
        *) break ;;
    esac
    shift
done
(($# == 1)) || die "give the one folder to write in; see --help"
folder=$1
need pg_dump pg_restore sha256sum flock
connect
umask 077
mkdir -p "$folder"
exec 9>"$folder/.lock"
flock -n 9 || die "another backup.sh writes in $folder"
part=$folder/.unfinished.dump
trap 'rm -f "$part" "$part.json"' EXIT

started=$(date -u +%Y%m%dT%H%M%SZ)
pg_dump --format=custom --no-owner --no-privileges --no-comments --lock-wait-timeout=30s --file="$part" "$url"
found=$(pg_restore --data-only --file=- "$part" | contents)
position=$(value position)
[[ -n $position ]] || die "there is no clock in the dump: is it the database of a CQAR server?"
[[ $position == "$(value newest)" ]] || die "the clock is at $position and the newest batch is $(value newest): not a whole registry"

name=cqar-$started-$(printf %020d "$position")
sum=$(sha256sum "$part")
cat >"$part.json" <<END
{
  "format": 1,
  "dump": "$name.dump",
  "sha256": "${sum%% *}",
  "bytes": $(stat -c %s "$part"),
  "started": "$started",
  "pg_dump": "$(pg_dump --version)",
  "log_id": "$(value log_id)",
  "position": $position,
  "chain": "$(value chain)",
  "rows": {
$(sed -n 's/^rows\.\(.*\) \(.*\)$/    "\1": \2/p' <<<"$found" | sort | sed '$!s/$/,/')
  }
}
END
sync "$part" "$part.json"
mv "$part" "$folder/$name.dump"
mv "$part.json" "$folder/$name.json"
sync "$folder"
echo "$folder/$name.dump: position $position of log $(value log_id), $(stat -c %s "$folder/$name.dump") bytes"

if ((keep)); then
    manifests=("$folder"/cqar-*.json)
    for ((i = 0; i < ${#manifests[@]} - keep; i++)); do
        rm "${manifests[i]}" "${manifests[i]%.json}.dump" # the manifest first: without one a dump is no backup
        echo "removed ${manifests[i]%.json}"
    done
fi
