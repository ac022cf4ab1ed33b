# shellcheck shell=bash
# The quickstart's MySQL or MariaDB: the user's own, by MYSQL_URL, or a throwaway one. Sourced by run.sh.

mysql_dir=''
tables_default='shop.*'
# shellcheck disable=SC2034  # read by run.sh
own_url=${MYSQL_URL:-}

db_fetch() {
  [ -n "$own_url" ] || "$servers/fetch.sh" "$db"
}

# mysql_client ARGUMENT…: the server's own client, as its superuser.
mysql_client() {
  "$(sed -n 's/^CLIENT=//p' "$mysql_dir/env")" --no-defaults --user=root \
    --socket="$(sed -n 's/^SOCKET=//p' "$mysql_dir/env")" "$@"
}

db_start() {
  local title=MySQL
  [ "$db" = mysql ] || title=MariaDB
  say "starting a throwaway $title…"
  mysql_dir="$work/$db"
  "$servers/$db.sh" start "$mysql_dir" --owner $$ binlog_row_metadata=FULL >/dev/null
  QUICKSTART_MYSQL_URL=$(sed -n 's/^URL=//p' "$mysql_dir/env")
  export QUICKSTART_MYSQL_URL
  mysql_client <"$here/mysql-schema.sql" >"$work/schema.log"
}

db_use() {
  export QUICKSTART_MYSQL_URL="$own_url"
  say "Rows of $QUICKSTART_TABLES are read from your server's binary log only; nothing is written to it."
}

db_is_streamed() {
  grep -q ' streaming ' "$data/rowtide.log"
}

# db_writer LOG
db_writer() {
  launch "$1" "$(sed -n 's/^CLIENT=//p' "$mysql_dir/env")" --no-defaults --user=root \
    --socket="$(sed -n 's/^SOCKET=//p' "$mysql_dir/env")" --database=shop \
    --execute "call shop_run()"
}

db_clean_up() {
  [ -z "$mysql_dir" ] || "$servers/$db.sh" stop "$mysql_dir" || true
}
