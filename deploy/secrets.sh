#!/bin/sh
# The secrets of a server.
#
#   deploy/secrets.sh make label.example.org it@example.org
#       writes .env with fresh ones, for its owner's eyes only
#   deploy/secrets.sh check
#       refuses missing, short and well-known ones; docker-compose.yml starts nothing before
set -eu
names="POSTGRES_PASSWORD REDIS_PASSWORD SECRET_KEY LABEL_STUDIO_PASSWORD LABEL_STUDIO_API_KEY BASIC_AUTH_PASS"

fail() {
  echo "$1" >&2
  exit 1
}

make() {
  [ $# -eq 2 ] || fail "Give the name of the server and an e-mail address, as in: deploy/secrets.sh make label.example.org it@example.org"
  [ ! -e .env ] || fail "There is a .env already, and the data of this server is locked with its secrets; to start anew, move it away first."
  umask 077
  {
    echo "# Whoever reads this file can read and change everything on this server."
    echo "SITE=$1"
    echo "# An address to be told about certificates, or: internal, or two files; see docs/admin.md"
    echo "SITE_TLS=$2"
    echo "LABEL_STUDIO_USERNAME=$2"
    for name in $names; do
      # Plain characters, which mean nothing in addresses, and 40 of them: Label Studio's tokens.
      echo "$name=$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')"
    done
  } > .env
}

check() {
  for name in $names; do
    eval "value=\${$name:-}"
    [ -n "$value" ] || fail "$name is not set; deploy/secrets.sh make writes a .env that has it."
    [ ${#value} -ge 12 ] || fail "$name is too short; take 12 characters or more, or what deploy/secrets.sh make writes."
    case $(printf %s "$value" | tr '[:upper:]' '[:lower:]' | tr -d '_ -') in
      *password* | *passwort* | *change* | *secret* | *example* | *placeholder* | *default* | \
        *labelstudio* | *biosegment* | *postgres* | *redis* | *admin* | *qwerty* | *12345*)
        fail "$name is a default or easily guessed; take what deploy/secrets.sh make writes." ;;
    esac
  done
}

action=${1:-}
case $action in
  make) shift; make "$@" ;;
  check) check ;;
  *) fail "Say make or check: deploy/secrets.sh make label.example.org it@example.org" ;;
esac
