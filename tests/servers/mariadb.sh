#!/usr/bin/env bash
# A throwaway MariaDB on loopback: the same commands as mysql.sh.
set -euo pipefail
ROWTIDE_MYSQL_FLAVOR=mariadb exec "$(dirname "${BASH_SOURCE[0]}")/mysql.sh" "$@"
