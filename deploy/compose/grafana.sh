#!/bin/sh
# Starts Grafana with an admin password that nobody knows beforehand: from your file (GRAFANA_ADMIN_PASSWORD_FILE), or
# made at the first start and kept beside Grafana's database. Read it with
#   docker compose exec grafana cat /var/lib/grafana/admin-password
# Grafana takes it when it creates its database; later, "grafana cli admin reset-admin-password" changes it.
set -eu
file=${RL_ADMIN_PASSWORD_FILE:-/dev/null}
if [ ! -s "$file" ]; then
    file=${GF_PATHS_DATA:-/var/lib/grafana}/admin-password
    if [ ! -s "$file" ]; then
        (umask 077 && head -c 24 /dev/urandom | base64 > "$file.new" && mv "$file.new" "$file")
    fi
fi
# Grafana would take an empty password for none, and use "admin".
if ! [ -r "$file" ] || [ -z "$(cat "$file")" ]; then
    echo "the admin password in $file cannot be read, or is empty; make it readable by user $(id -u)" >&2
    exit 1
fi
export GF_SECURITY_ADMIN_PASSWORD__FILE="$file"
exec "$@"
