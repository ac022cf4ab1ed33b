//! The SQL of `rowtide check --print-sql`: what a server needs for one configuration, and no more.
//!
//! Each statement stands between empty lines and can be run by itself. Where the server can be asked,
//! the publication names the tables; where it cannot (the role may not exist yet), a block finds them
//! when it runs, by the same rules.

mod reading;

use std::fmt::Write as _;

use rowtide_sdk::{Provider, ReselectRules, Result};

use self::reading::Reading;
use crate::config::{Operation, PostgresConfig, PublicationManagement, captures};
use crate::publication::{self, CatalogTable, Membership, Publication};
use crate::server::Server;
use crate::slot;
use crate::source::PostgresSource;
use crate::sql::{Sql, ident, literal};
use crate::wire::sql_client;

/// What the server could be asked.
struct Seen {
    wal_level: String,
    tables: Vec<CatalogTable>,
    publication: Option<Publication>,
    is_for_failover: bool,
    /// Whether it is a standby.
    in_recovery: bool,
    /// Tables with rows that a policy hides from the role, by oid.
    secured: Vec<u32>,
}

async fn see(source: &PostgresSource) -> Result<Seen> {
    let client = sql_client(&source.options).await?;
    let mut sql = &*client;
    let server = Server::ask(&mut sql).await?;
    let tables = publication::wanted_tables(&mut sql, &source.filter).await?;
    let name = &source.config.publication;
    let publication = publication::find(&mut sql, name, server.major()).await?;
    let is_for_failover = slot::is_for_failover(&server);
    let mut secured = Vec::new();
    let policies = "SELECT oid FROM pg_class WHERE relrowsecurity AND row_security_active(oid)";
    for row in sql.rows(policies, "asking for row security").await? {
        secured.extend(row.into_iter().flatten().filter_map(|oid| oid.parse::<u32>().ok()));
    }
    let (wal_level, in_recovery) = (server.wal_level, server.in_recovery);
    Ok(Seen { wal_level, tables, publication, is_for_failover, in_recovery, secured })
}

/// The SQL with which an administrator gives the source of `connector` what it needs, on a server
/// that `provider` runs. Connects and reads where it may; holds no secret.
pub async fn setup_sql(
    source: &PostgresSource,
    connector: &str,
    provider: Provider,
    reselects: ReselectRules<'_>,
) -> String {
    let seen = see(source).await;
    let note = match &seen {
        Ok(Seen { in_recovery: true, .. }) => {
            "-- The server is a standby, where nothing of this can \
            run: run it on its primary, from where it comes\n-- here. Only the slot of 5. is the \
            standby's own.\n"
                .to_owned()
        }
        Ok(_) => String::new(),
        Err(error) => format!(
            "-- The server could not be asked ({}). So this does not know what is there: it can be run\n\
             -- again, makes what is missing and leaves the rest as it is. The tables are found when it runs,\n\
             -- without those that have no key. Whether the log is logical already, which options and tables\n\
             -- a publication has that is there, and which rows row security hides it does not know either:\n\
             -- once the server can be asked, `rowtide check` tells, and this prints what is still lacking.\n",
            error.code()
        ),
    };
    let seen = seen.ok();
    let reading = Reading::new(source, seen.as_ref(), reselects);
    script(source, connector, provider, seen.as_ref(), &reading, &note)
}

fn script(
    source: &PostgresSource,
    connector: &str,
    provider: Provider,
    seen: Option<&Seen>,
    reading: &Reading,
    note: &str,
) -> String {
    let PostgresConfig { slot, publication, .. } = &source.config;
    let (role, database) = (ident(&source.options.user), ident(&source.options.database));
    let mut out = format!(
        "-- What connector {} needs of {}.\n-- Run it in the database {database}, as {}.\n{note}\n",
        comment(connector),
        server_name(provider),
        administrator(provider),
    );
    out.push_str("-- 1. The log must carry logical changes.\n");
    out.push_str(&log_level(provider, seen));
    out.push_str(&format!(
        "\n-- 2. The role. Its password is yours to set; {}.\n{}\n",
        reading.words(),
        role_sql(provider, &role)
    ));
    out.push_str(&format!(
        "-- 3. The database.\nGRANT CONNECT ON DATABASE {database} TO {role};\n\n{}",
        hba(provider, source)
    ));
    out.push_str(&reading.grants());
    out.push_str("-- 4. The publication, before the slot.\n");
    out.push_str(&publication_sql(source, seen));
    out.push_str(&management(source));
    out.push_str(&format!(
        "\n-- 5. The slot. Rowtide creates it when it starts for the first time. To have it earlier:\n\
         {}\n\
         -- To take all of it back, with Rowtide stopped:\n\
         -- SELECT pg_drop_replication_slot({});\n-- DROP PUBLICATION {};\n{}\
         -- REVOKE CONNECT ON DATABASE {database} FROM {role};\n-- DROP ROLE {role};\n",
        slot_sql(slot, seen),
        literal(slot),
        ident(publication),
        reading.revokes(),
    ));
    out
}

/// The slot as Rowtide creates it, in comments.
fn slot_sql(name: &str, seen: Option<&Seen>) -> String {
    match seen {
        Some(seen) => format!("-- {};\n", slot::creation(name, seen.is_for_failover)),
        None => format!(
            "-- {};\n-- or, on a primary from PostgreSQL 17 on, for failover:\n-- {};\n",
            slot::creation(name, false),
            slot::creation(name, true)
        ),
    }
}

/// A text that ends a comment's line nowhere.
fn comment(text: &str) -> String {
    format!("{text:?}")
}

fn server_name(provider: Provider) -> &'static str {
    match provider {
        Provider::SelfRun => "a self-run PostgreSQL",
        Provider::Rds => "Amazon RDS or Aurora for PostgreSQL",
        Provider::CloudSql => "Google Cloud SQL for PostgreSQL",
        Provider::Azure => "Azure Database for PostgreSQL",
    }
}

fn administrator(provider: Provider) -> &'static str {
    match provider {
        Provider::SelfRun => "a superuser (with psql: psql -f FILE)",
        Provider::Rds => "the master user, who must own the tables or be in their owner's role",
        Provider::CloudSql => "postgres, who must own the tables or be in their owner's role",
        Provider::Azure => "the administrator, who must own the tables or be in their owner's role",
    }
}

fn log_level(provider: Provider, seen: Option<&Seen>) -> String {
    if seen.is_some_and(|seen| seen.wal_level == "logical") {
        return "--    It does: wal_level is logical.\n".to_owned();
    }
    match provider {
        Provider::SelfRun => "--    Restart the server after this statement, before step 5.\n\
             ALTER SYSTEM SET wal_level = 'logical';\n"
            .to_owned(),
        Provider::Rds => "--    Not SQL: set rds.logical_replication = 1 in the instance's own parameter\n\
             --    group (Aurora: the cluster's parameter group) and reboot; wal_level follows.\n\
             --    max_replication_slots and max_wal_senders are in the same group.\n"
            .to_owned(),
        Provider::CloudSql => "--    Not SQL: set the flag cloudsql.logical_decoding to on; the instance\n\
             --    restarts, and wal_level follows. `gcloud sql instances patch` replaces all flags:\n\
             --    name those that are set already, too.\n"
            .to_owned(),
        Provider::Azure => "--    Not SQL: set the server parameter wal_level to logical, save and restart\n\
             --    (the retired single server: azure.replication_support = LOGICAL).\n"
            .to_owned(),
    }
}

/// A block of PL/pgSQL, in quotes that its text does not hold.
fn block(body: &str) -> String {
    let mut tag = "rowtide".to_owned();
    while body.contains(&format!("${tag}$")) {
        tag.push('_');
    }
    format!("DO ${tag}$\n{body}\n${tag}$;\n")
}

/// A statement that does nothing where what it makes is there, so that a script can be run again.
fn once(statement: &str) -> String {
    block(&format!("BEGIN\n{statement};\nEXCEPTION WHEN duplicate_object THEN\n    NULL;\nEND"))
}

/// Makes the role, or gives one that is there what it lacks.
fn role_sql(provider: Provider, role: &str) -> String {
    let make = |attributes: &str| {
        block(&format!(
            "BEGIN\n    CREATE ROLE {role} {attributes};\nEXCEPTION WHEN duplicate_object THEN\n    \
             ALTER ROLE {role} {attributes};\nEND"
        ))
    };
    match provider {
        Provider::SelfRun => make("LOGIN REPLICATION"),
        Provider::Rds => format!("{}\nGRANT rds_replication TO {role};\n", make("LOGIN")),
        Provider::CloudSql | Provider::Azure => format!(
            "--    The administrator needs REPLICATION in order to give it: ALTER ROLE … REPLICATION.\n{}",
            make("LOGIN REPLICATION")
        ),
    }
}

/// What must let the connection in beside the grant.
fn hba(provider: Provider, source: &PostgresSource) -> String {
    match provider {
        Provider::SelfRun => format!(
            "--    Not SQL: a line in pg_hba.conf must let it in, such as\n\
             --    hostssl {} {} ADDRESS/32 scram-sha-256\n\n",
            comment(&source.options.database),
            comment(&source.options.user)
        ),
        _ => "--    Not SQL: the provider's network rules must let it in.\n\n".to_owned(),
    }
}

/// What the publication is created with, but for what its tables ask for.
fn options(config: &PostgresConfig) -> String {
    let names: Vec<&str> = config
        .publication_operations
        .iter()
        .map(|operation: &Operation| operation.name())
        .collect();
    format!("publish = '{}', publish_via_partition_root = true", names.join(", "))
}

fn publication_sql(source: &PostgresSource, seen: Option<&Seen>) -> String {
    let name = &source.config.publication;
    let options = options(&source.config);
    let Some(seen) = seen else { return found_when_run(source, &options) };
    let mut out = String::new();
    let is_fit = |table: &&CatalogTable| table.has_identity && table.unlike_partitions.is_empty();
    let (fit, unfit): (Vec<_>, Vec<_>) = seen.tables.iter().partition(is_fit);
    if !unfit.is_empty() {
        out.push_str(
            "--    Left out, as the application's updates and deletes would fail: these have no usable\n\
             --    replica identity. Give them one, such as this, and add them.\n",
        );
        for table in unfit {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "-- {}", one_line(&made_fit(source, table)));
        }
    }
    let sends_generated = fit.iter().any(|table| table.needs_generated())
        && publication::names_old_rows(&source.config.publication_operations);
    if let Some(there) = &seen.publication {
        out.push_str(&alter_publication(source, there, &fit));
        return out;
    }
    let tables: Vec<String> = fit.iter().map(|table| format!("    ONLY {}", table.sql())).collect();
    let named = match tables.is_empty() {
        true => String::new(),
        false => format!(" FOR TABLE\n{}\n   ", tables.join(",\n")),
    };
    let generated = match sends_generated {
        true => format!(", {}", publication::SEND_GENERATED),
        false => String::new(),
    };
    let statement =
        format!("CREATE PUBLICATION {}{named} WITH ({options}{generated})", ident(name));
    out.push_str(&once(&statement));
    out
}

/// What gives a table an identity that can be published, and publishes it.
fn made_fit(source: &PostgresSource, table: &CatalogTable) -> String {
    let (sql, name) = (table.sql(), &source.config.publication);
    let identity = match table.unlike_partitions.is_empty() {
        true => table.full_identity(std::slice::from_ref(&sql), None),
        false => table.full_identity(&table.unlike_partitions, None),
    };
    let option = match table.generated.has_stored {
        true => {
            format!("ALTER PUBLICATION {} SET ({}); ", ident(name), publication::SEND_GENERATED)
        }
        false => String::new(),
    };
    format!(
        "{}; {option}ALTER PUBLICATION {} ADD TABLE ONLY {sql};",
        identity.unwrap_or_else(|| publication::identity_remedy(table, None)),
        ident(name)
    )
}

/// What a publication that is there lacks.
fn alter_publication(
    source: &PostgresSource,
    there: &Publication,
    wanted: &[&CatalogTable],
) -> String {
    let name = ident(&source.config.publication);
    let (asked, published) = (&source.config.publication_operations, there.operations());
    let mut settings = Vec::new();
    if !published.is_superset(asked) {
        let both = asked.union(&published).copied().collect();
        settings.push(format!("publish = '{}'", publication::publish(&both)));
    }
    if !there.via_root && wanted.iter().any(|table| table.is_partitioned) {
        settings.push("publish_via_partition_root = true".to_owned());
    }
    let is_sent =
        |table: &CatalogTable| publication::membership(there, table) != Membership::Unsent;
    let unsent = || wanted.iter().filter(|table| !is_sent(table));
    let is_lacking =
        !there.generated_unsent.is_empty() || unsent().any(|table| table.needs_generated());
    if is_lacking
        && !there.sends_generated
        && publication::names_old_rows(&asked.union(&published).copied().collect())
    {
        settings.push(publication::SEND_GENERATED.to_owned());
    }
    let added: Vec<String> = unsent().map(|table| format!("    ONLY {}", table.sql())).collect();
    let mut statements = Vec::new();
    if !settings.is_empty() {
        statements.push(format!("ALTER PUBLICATION {name} SET ({});\n", settings.join(", ")));
    }
    if !added.is_empty() {
        let statement = format!("ALTER PUBLICATION {name} ADD TABLE\n{}", added.join(",\n"));
        statements.push(once(&statement));
    }
    match statements.is_empty() {
        true => "--    It is there, and sends what is needed.\n".to_owned(),
        false => format!("--    It is there. What it lacks:\n{}", statements.join("\n")),
    }
}

/// Keeps a name that holds a line feed within a comment.
fn one_line(sql: &str) -> String {
    sql.replace(['\n', '\r'], " ")
}

/// A block that finds the tables as a run would: what matches, a partitioned table for its
/// partitions, and none whose updates would fail once it is published. A publication that is there gets
/// those that it does not send.
fn found_when_run(source: &PostgresSource, options: &str) -> String {
    let is_matched = captures(&source.filter, "n.nspname", "c.relname");
    let name = literal(&source.config.publication);
    block(&format!(
        "DECLARE
    tables text;
    generated boolean;
BEGIN
    WITH matched AS (
        SELECT c.oid, n.nspname, c.relname, c.relreplident FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND pg_catalog.pg_relation_is_publishable(c.oid)
        AND {is_matched}
    ),
    identity AS (
        SELECT c.oid, c.relreplident = 'f' AS is_full, EXISTS (
            SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid
            AND a.attgenerated = 'v' AND NOT a.attisdropped AND c.relreplident = 'f'
        ) AS has_virtual, EXISTS (
            SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid
            AND a.attgenerated = 's' AND NOT a.attisdropped
            AND (c.relreplident = 'f' OR a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
        ) AS has_stored, ARRAY(
            SELECT a.attname FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND (c.relreplident = 'f' OR a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
        ) AS columns
        FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_index i
        ON i.indexrelid = pg_catalog.pg_get_replica_identity_index(c.oid)
        WHERE c.relkind IN ('r', 'p')
    )
    SELECT string_agg(format('ONLY %I.%I', m.nspname, m.relname), ', ' ORDER BY m.nspname, m.relname),
        {may_need} AND current_setting('server_version_num')::int >= 180000 AND bool_or(own.has_stored OR EXISTS (
            SELECT FROM pg_catalog.pg_partition_tree(m.oid) part
            JOIN pg_catalog.pg_class l ON l.oid = part.relid AND l.relkind = 'r'
            JOIN identity leaf ON leaf.oid = l.oid WHERE leaf.has_stored))
    INTO tables, generated FROM matched m JOIN identity own ON own.oid = m.oid
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_publication p
        LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = m.oid
        LEFT JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname
            AND t.schemaname = m.nspname AND t.tablename = m.relname
        WHERE p.pubname = {name} AND (p.puballtables OR r.oid IS NOT NULL OR t.pubname IS NOT NULL))
    AND (own.is_full OR own.columns <> '{{}}') AND NOT own.has_virtual
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(m.oid) up
        JOIN matched root ON root.oid = up.relid WHERE root.oid <> m.oid)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_partition_tree(m.oid) part
        JOIN pg_catalog.pg_class l ON l.oid = part.relid AND l.relkind = 'r'
        JOIN identity leaf ON leaf.oid = l.oid
        WHERE leaf.has_virtual
        OR NOT leaf.is_full AND (leaf.columns = '{{}}' OR NOT leaf.columns @> own.columns));
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = {name}) THEN
        EXECUTE format('CREATE PUBLICATION %I', {name})
            || coalesce(' FOR TABLE ' || tables, '') || ' WITH ({}'
            || CASE WHEN generated THEN ', {send}' ELSE '' END || ')';
    ELSIF tables IS NOT NULL THEN
        IF generated THEN
            EXECUTE format('ALTER PUBLICATION %I SET ({send})', {name});
        END IF;
        EXECUTE format('ALTER PUBLICATION %I ADD TABLE ', {name}) || tables;
    END IF;
END",
        options.replace('\'', "''"),
        send = publication::SEND_GENERATED,
        may_need = publication::names_old_rows(&source.config.publication_operations),
    ))
}

/// What the role may do to the publication.
fn management(source: &PostgresSource) -> String {
    let PostgresConfig { publication, publication_management, .. } = &source.config;
    match publication_management {
        PublicationManagement::External => String::new(),
        PublicationManagement::Auto => format!(
            "\n--    It stays as it is created here: say so with `publication_management: external`.\n\
             --    Only an owner of the tables may add those that come later. To let Rowtide do it:\n\
             -- GRANT CREATE ON DATABASE {} TO {role}; GRANT {role} TO CURRENT_USER;\n\
             -- ALTER PUBLICATION {} OWNER TO {role};\n\
             -- GRANT … TO {role}; for each role that owns such tables (not one that is a member of {role})\n",
            one_line(&ident(&source.options.database)),
            one_line(&ident(publication)),
            role = one_line(&ident(&source.options.user)),
        ),
    }
}
