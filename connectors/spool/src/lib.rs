//! What sources share to set transactions aside until they are known to be complete: memory in
//! [`Blocks`], what is above its limit in files of a [`Folder`], and the settings of both.
//!
//! What is kept of a transaction, and when it is over, is the source's own matter. Nothing here
//! outlives a session: the database sends again what is not confirmed.

mod blocks;
pub mod codes;
mod config;
mod folder;

pub use blocks::{Blocks, Pool};
pub use config::{ByteSize, SpoolConfig};
pub use folder::{Folder, Remedies};
