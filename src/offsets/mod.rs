//! Where a pipeline's position is kept when its sink cannot hold it: one file per connector.

mod file;

pub use file::{FileStore, check, others_claiming, saved};
