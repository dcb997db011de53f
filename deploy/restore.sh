#!/bin/sh
# deploy/restore.sh FOLDER
#
# Puts back what deploy/backup.sh wrote, into a new server of which only the database runs.
set -eu
[ $# -eq 1 ] || { echo "Name the folder of a backup, as in: deploy/restore.sh /backup/monday" >&2; exit 1; }
[ -e "$1/database.dump" ] || { echo "$1 holds no backup; name a folder that deploy/backup.sh made." >&2; exit 1; }

# unpack SERVICE FOLDER < ARCHIVE
unpack() {
  docker compose run --rm --no-deps -T "$1" tar --extract --directory="$2"
}

left=$(docker compose run --rm --no-deps -T backend find /data -mindepth 1 -maxdepth 1 < /dev/null)
[ -z "$left" ] || { echo "This server holds data, and nothing was overwritten; docker compose down --volumes deletes all of it." >&2; exit 1; }

until docker compose exec -T postgres pg_isready --quiet --host=localhost --username=labelstudio < /dev/null; do
  sleep 1
done
docker compose exec -T postgres pg_restore --username=labelstudio --dbname=labelstudio \
  --no-owner --single-transaction < "$1/database.dump"
unpack backend /data < "$1/models.tar"
unpack backend /data < "$1/data.tar"
unpack label-studio /label-studio < "$1/label-studio.tar"
