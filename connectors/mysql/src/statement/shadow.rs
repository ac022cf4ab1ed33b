//! The tables that tools for schema changes work with: a copy with the new columns, which takes the
//! table's name in the end, the table as it was, and what changes meanwhile.

/// A tool that changes a table by way of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// gh-ost.
    GhOst,
    /// pt-online-schema-change of the Percona Toolkit, and tools that name tables as it does.
    PtOnlineSchemaChange,
    /// The Large Hadron Migrator.
    Lhm,
    /// OnlineSchemaChange.
    OnlineSchemaChange,
}

impl Tool {
    /// The tool's own name.
    pub fn name(self) -> &'static str {
        match self {
            Self::GhOst => "gh-ost",
            Self::PtOnlineSchemaChange => "pt-online-schema-change",
            Self::Lhm => "LHM",
            Self::OnlineSchemaChange => "OnlineSchemaChange",
        }
    }
}

/// What a tool has a table for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The copy, which takes the table's name.
    New,
    /// The table as it was, which loses its name.
    Old,
    /// What changes meanwhile, or how far the tool is.
    Log,
}

/// A table of such a tool, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadow<'a> {
    /// Whose.
    pub tool: Tool,
    /// What for.
    pub role: Role,
    /// The table that is changed, as far as the name says it: see [`Shadow::is_of`].
    pub table: &'a str,
    is_cut: bool,
}

/// Names of tables have so many characters at most.
const NAME_MAX: usize = 64;

impl Shadow<'_> {
    /// Whether it is one of `table`, whose name is cut where the two together would be too long.
    ///
    /// pt-online-schema-change puts further underscores before names that are taken, and a table's own
    /// name may begin with some; so any number of them is taken for none.
    pub fn is_of(&self, table: &str) -> bool {
        let (found, table) = match self.tool {
            Tool::PtOnlineSchemaChange => {
                (self.table.trim_start_matches('_'), table.trim_start_matches('_'))
            }
            _ => (self.table, table),
        };
        found == table || self.is_cut && table.starts_with(found)
    }
}

/// Which tool's table this is by its name, if it looks like one.
pub fn shadow_of(name: &str) -> Option<Shadow<'_>> {
    let is_cut = name.chars().count() >= NAME_MAX;
    let (tool, role, table) = by_prefix(name).or_else(|| by_suffix(name))?;
    (!table.is_empty()).then_some(Shadow { tool, role, table, is_cut })
}

fn by_prefix(name: &str) -> Option<(Tool, Role, &str)> {
    let osc = Tool::OnlineSchemaChange;
    for (prefix, tool, role) in [
        ("lhmn_", Tool::Lhm, Role::New),
        ("__osc_new_", osc, Role::New),
        ("__osc_old_", osc, Role::Old),
        ("__osc_chg_", osc, Role::Log),
    ] {
        if let Some(table) = name.strip_prefix(prefix) {
            return Some((tool, role, table));
        }
    }
    // The time that it was put away: 2026_01_31_12_00_00_123_.
    let mut rest = name.strip_prefix("lhma_")?;
    for digits in [4, 2, 2, 2, 2, 2, 3] {
        let (number, behind) = rest.split_at_checked(digits)?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        rest = behind.strip_prefix('_')?;
    }
    Some((Tool::Lhm, Role::Old, rest))
}

fn by_suffix(name: &str) -> Option<(Tool, Role, &str)> {
    let inside = name.strip_prefix('_')?;
    for (suffix, tool, role) in [
        ("_gho", Tool::GhOst, Role::New),
        ("_ghc", Tool::GhOst, Role::Log),
        ("_ghk", Tool::GhOst, Role::Log),
        ("_del", Tool::GhOst, Role::Old),
        ("_new", Tool::PtOnlineSchemaChange, Role::New),
        ("_old", Tool::PtOnlineSchemaChange, Role::Old),
    ] {
        if let Some(table) = inside.strip_suffix(suffix) {
            let table = if role == Role::Old { without_time(table) } else { table };
            let table = match tool {
                Tool::PtOnlineSchemaChange => table.trim_start_matches('_'),
                _ => table,
            };
            return Some((tool, role, table));
        }
    }
    None
}

/// gh-ost can put the time into the name of the table as it was: `_t_20260131120000_del`.
fn without_time(table: &str) -> &str {
    match table.rsplit_once('_') {
        Some((before, time)) if time.len() == 14 && time.bytes().all(|b| b.is_ascii_digit()) => {
            before
        }
        _ => table,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m42_tables_of_tools_are_known_by_name() {
        let known = |name| shadow_of(name).map(|found| (found.tool, found.role, found.table));
        let (gh_ost, pt) = (Tool::GhOst, Tool::PtOnlineSchemaChange);
        let osc = Tool::OnlineSchemaChange;
        for (name, tool, role, table) in [
            ("_orders_gho", gh_ost, Role::New, "orders"),
            ("_orders_ghc", gh_ost, Role::Log, "orders"),
            ("_orders_ghk", gh_ost, Role::Log, "orders"),
            ("_orders_del", gh_ost, Role::Old, "orders"),
            ("_orders_20260131120000_del", gh_ost, Role::Old, "orders"),
            ("__orders_gho", gh_ost, Role::New, "_orders"),
            ("_orders_new", pt, Role::New, "orders"),
            ("___orders_new", pt, Role::New, "orders"),
            ("_orders_old", pt, Role::Old, "orders"),
            ("lhmn_orders", Tool::Lhm, Role::New, "orders"),
            ("lhma_2026_09_28_12_00_00_123_orders", Tool::Lhm, Role::Old, "orders"),
            ("__osc_new_orders", osc, Role::New, "orders"),
            ("__osc_chg_orders", osc, Role::Log, "orders"),
            ("__osc_old_orders", osc, Role::Old, "orders"),
        ] {
            assert_eq!(known(name), Some((tool, role, table)), "{name}");
            assert!(shadow_of(name).unwrap().is_of(table), "{name}");
            assert!(!shadow_of(name).unwrap().is_of("orders2"), "{name}");
        }
        for name in [
            "orders",
            "orders_new",
            "_orders",
            "__gho",
            "_gho",
            "_new",
            "lhmn_",
            "lhma_x",
            "",
            "_é",
        ] {
            assert_eq!(known(name), None, "{name}");
        }
    }

    #[test]
    fn m42_a_name_that_was_cut_is_of_the_longer_one() {
        let table = "a".repeat(62);
        let cut = format!("_{}_gho", "a".repeat(59));
        assert_eq!(cut.len(), NAME_MAX);
        assert!(shadow_of(&cut).unwrap().is_of(&table));
        assert!(!shadow_of("_aaa_gho").unwrap().is_of(&table));
        assert!(shadow_of("__t_new").unwrap().is_of("_t"));
    }
}
