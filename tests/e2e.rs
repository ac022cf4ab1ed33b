//! The binary against real servers: what arrives, what survives, what is refused and how.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may fail, and says where"
)]

#[path = "e2e/check.rs"]
mod check;
#[path = "e2e/comings.rs"]
mod comings;
#[path = "e2e/evolution.rs"]
mod evolution;
#[path = "e2e/host.rs"]
mod host;
#[path = "e2e/kafka.rs"]
mod kafka;
#[path = "e2e/layouts.rs"]
mod layouts;
#[path = "e2e/memory.rs"]
mod memory;
#[path = "e2e/messages.rs"]
mod messages;
#[path = "e2e/moved.rs"]
mod moved;
#[path = "e2e/mysql.rs"]
mod mysql;
#[path = "e2e/mysql_altered.rs"]
mod mysql_altered;
#[path = "e2e/mysql_hidden.rs"]
mod mysql_hidden;
#[path = "e2e/names.rs"]
mod names;
#[path = "e2e/operate.rs"]
mod operate;
#[path = "e2e/print_sql.rs"]
mod print_sql;
#[path = "e2e/refusals.rs"]
mod refusals;
#[path = "e2e/restarts.rs"]
mod restarts;
#[path = "e2e/story.rs"]
mod story;
#[path = "e2e/together.rs"]
mod together;
#[path = "e2e/types.rs"]
mod types;
#[path = "e2e/unchanged.rs"]
mod unchanged;
