# shellcheck shell=bash
# What the scripts of this folder have in common. They set the variables that they need before they read options.

say() { printf '%s\n' "$*" >&2; }

# A wrong command line: 2, as everywhere in this project.
wrong() {
    say "$(basename "$0"): $*"
    say "${usage:?}"
    exit 2
}

help() {
    printf '%s\n' "${usage:?}"
    exit 0
}

# Every option's value has to be there, and has to be none of the characters that gcloud splits at.
value_of() {
    [ "$#" -ge 2 ] || wrong "$1 needs a value"
    case $2 in
    '' | *[[:space:]~]*) wrong "$1: empty, or with a blank or a tilde in it: '$2'" ;;
    esac
    printf '%s' "$2"
}

required() {
    local option
    for option in "$@"; do
        [ -n "${!option:-}" ] || wrong "--$option is needed"
    done
}

check_zone() { [[ $1 =~ ^[a-z]+-[a-z]+[0-9]+-[a-z]$ ]] || wrong "--zone: such as europe-west4-b, not '$1'"; }

# A service account's name is made of it. The project's own network `default` lets in SSH, RDP and ICMP from everywhere.
check_name() {
    [ "$1" != default ] || wrong "--name: another one than that of the project's own network, '$1'"
    [[ $1 =~ ^[a-z][a-z0-9-]{4,20}[a-z0-9]$ ]] || wrong "--name: 6 to 22 lower-case letters, digits and hyphens, not '$1'"
}

region_of() { printf '%s' "${1%-*}"; }

account_of() { printf '%s@%s.iam.gserviceaccount.com' "$1" "$2"; }

# What is there already stays as it is, so that this may run again after a failure. `there` says if it was.
there=''
make() {
    local said
    there=''
    if said=$(gcloud "$@" --project="${project:?}" --quiet 2>&1); then return; fi
    say "$said"
    grep --quiet --ignore-case -e 'already exists' -e 'already_exists' -e 'already own it' <<<"$said" || return
    # shellcheck disable=SC2034  # callers read it
    there=yes
}

# A service account is known everywhere only some time after it was made, as Google documents: a minute is waited.
grant() {
    local said tries=0
    until said=$(gcloud "$@" --project="${project:?}" --quiet --format=none --member="serviceAccount:${account:?}" 2>&1); do
        tries=$((tries + 1))
        if [ "$tries" -ge 12 ] || ! grep --quiet --ignore-case 'does not exist' <<<"$said"; then
            say "$said"
            return 1
        fi
        sleep 5
    done
}
