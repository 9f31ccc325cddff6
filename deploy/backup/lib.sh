# What backup.sh and restore.sh share; sourced, never run.
#
# A password must not stand on a command line, which every user of the machine can read: `connect` takes it out of the URL and
# hands it to PostgreSQL's programs in their environment.
# shellcheck shell=bash

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Stop unless the programs that are needed are there.
need() {
    local program
    for program; do
        command -v "$program" >/dev/null || die "there is no $program: set PG_BIN to the folder of PostgreSQL's programs, or PATH"
    done
}

# Set `url` to CQAR_DATABASE in libpq's form and without its password, which goes into PGPASSWORD.
connect() {
    url=postgresql://${CQAR_DATABASE#*://}
    local authority=${url#*://} password
    authority=${authority%%[/?]*}
    [[ $url != *[?\&]password=* ]] || die "CQAR_DATABASE: give the password as user:password@host, or by PGPASSFILE"
    if [[ ${authority%@*} == *:* && $authority == *@* ]]; then
        password=${authority%@*}
        password=${password#*:}
        url=${url/":$password@"/@}
        password=${password//\\/\\\\}
        printf -v PGPASSWORD '%b' "${password//%/\\x}"
        export PGPASSWORD
    fi
}

[[ -z ${PG_BIN:-} ]] || PATH=$PG_BIN:$PATH
CQAR=${CQAR:-cqar}
export CQAR_DATABASE=${CQAR_DATABASE:-postgresql://}
