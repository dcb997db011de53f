#!/bin/sh
# deploy/backup.sh FOLDER
#
# Writes all that a running server holds into a new folder, while people work. Redis is left out:
# what it holds is found again.
set -eu
[ $# -eq 1 ] || { echo "Name a new folder, as in: deploy/backup.sh /backup/monday" >&2; exit 1; }
[ ! -e "$1" ] || { echo "$1 is there already; name a new folder." >&2; exit 1; }
umask 077
partial=$1.partial
rm -rf "$partial"
mkdir -p "$partial"

# archive SERVICE FOLDER FILES...: 1 says that a file changed meanwhile; it is in the next backup.
archive() {
  service=$1 folder=$2
  shift 2
  docker compose exec -T "$service" tar --create --directory="$folder" "$@" || [ $? -eq 1 ]
}

# In this order no model has learned from an annotation that the database lacks, and no task in the
# database lacks its tile.
docker compose exec -T backend mkdir -p /data/models
archive backend /data ./models > "$partial/models.tar"
docker compose exec -T postgres pg_dump --username=labelstudio --format=custom labelstudio \
  > "$partial/database.dump"
archive backend /data --exclude=./models . > "$partial/data.tar"
archive label-studio /label-studio . > "$partial/label-studio.tar"
cp .env "$partial/env"

# Its name says that it is whole.
mv "$partial" "$1"
