//! SQL that reads what is published out of the catalog's tables alone.
//!
//! The server's own `pg_publication_tables`, `pg_partition_tree` and `pg_get_replica_identity_index`
//! lock the tables that they tell of. A connector that used them could not start for as long as a
//! migration holds any of the tables, and would hold up others meanwhile with the locks that it has
//! already.

/// The oid of the index whose columns are logged as the identity of a row of `table`, an alias of
/// `pg_class`; NULL where there is none, as under FULL. As `RelationGetIndexList` picks it.
pub(super) fn identity_index(table: &str) -> String {
    format!(
        "(SELECT x.indexrelid FROM pg_index x WHERE x.indrelid = {table}.oid
            AND x.indisunique AND x.indimmediate AND x.indpred IS NULL
            AND (x.indisvalid OR {table}.relkind = 'p')
            AND ({table}.relreplident = 'd' AND x.indisprimary
                OR {table}.relreplident = 'i' AND x.indisreplident))"
    )
}

/// The oids of a table and all partitions below it, as a subquery with the column `relid`.
pub(crate) fn partition_tree(oid: &str) -> String {
    format!(
        "(WITH RECURSIVE tree(relid) AS (SELECT {oid}::oid UNION
            SELECT h.inhrelid FROM tree JOIN pg_inherits h ON h.inhparent = tree.relid
            JOIN pg_class d ON d.oid = h.inhrelid
            WHERE d.relispartition AND NOT h.inhdetachpending)
        SELECT relid FROM tree)"
    )
}

/// The oids of the tables under whose names the publication `p`, an alias of `pg_publication`, sends
/// changes: a subquery with the column `relid`.
pub(crate) fn sent_tables(major: u32) -> String {
    // Schemas came with version 15.
    let by_schema = match major >= 15 {
        true => {
            "OR EXISTS (SELECT FROM pg_publication_namespace s
                    WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)"
        }
        false => "",
    };
    let below = partition_tree("entry.oid");
    format!(
        "(WITH entry AS (SELECT c.oid, c.relispartition FROM pg_class c
            WHERE c.relkind IN ('r', 'p') AND pg_relation_is_publishable(c.oid)
            AND (p.puballtables {by_schema} OR EXISTS (SELECT FROM pg_publication_rel r
                WHERE r.prpubid = p.oid AND r.prrelid = c.oid)))
        SELECT entry.oid AS relid FROM entry WHERE p.pubviaroot AND NOT (entry.relispartition
            AND (p.puballtables OR EXISTS (SELECT FROM pg_partition_ancestors(entry.oid) up
                JOIN entry above ON above.oid = up.relid WHERE up.relid <> entry.oid)))
        UNION SELECT below.relid FROM entry CROSS JOIN LATERAL {below} below
            JOIN pg_class l ON l.oid = below.relid
            WHERE NOT p.pubviaroot AND l.relkind <> 'p')"
    )
}

#[cfg(test)]
mod tests;
