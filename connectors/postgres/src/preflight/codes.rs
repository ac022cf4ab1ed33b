//! The codes RT237x and RT238x: what a look at the catalog finds.

use rowtide_sdk::Code;

/// Relations that the log never carries match the selection.
pub(crate) const NOT_LOGGED: Code = Code("RT2370");
/// Row security hides rows of a table from the role.
pub(crate) const ROW_SECURITY: Code = Code("RT2371");
/// Updates may leave values out.
pub(crate) const MAY_BE_UNCHANGED: Code = Code("RT2372");
/// Columns whose JSON consumers may misread.
pub(crate) const PRECISION: Code = Code("RT2373");
/// Generated columns are not in the log.
pub(crate) const GENERATED: Code = Code("RT2374");
/// A column list, a WHERE or generated columns make the application's updates and deletes fail.
pub(crate) const UPDATES_FAIL: Code = Code("RT2375");
/// The database's encoding is not UTF-8.
pub(crate) const ENCODING: Code = Code("RT2376");
/// An attribute or setting of the role.
pub(crate) const ROLE: Code = Code("RT2377");
/// Slots and WAL senders of the server, and who holds them.
pub(crate) const SLOTS: Code = Code("RT2378");
/// Partitions log less of old rows than the partitioned table's identity asks for.
pub(crate) const PARTITION_IDENTITY: Code = Code("RT2379");
/// What settings hide of a table would come under another name.
pub(crate) const EXPOSED: Code = Code("RT2381");
/// A table shows what settings hide of the one that it inherits from.
pub(crate) const INHERITED: Code = Code("RT2382");
/// Money is stored in another unit than hundredths.
pub(crate) const MONEY: Code = Code("RT2380");
