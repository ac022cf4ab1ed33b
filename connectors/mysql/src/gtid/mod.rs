//! GTIDs, and sets of them; no I/O.

pub mod mariadb;
pub mod mysql;
