//! Where a pipeline's position is kept when its sink cannot hold it: one file per connector.

mod file;

pub use file::{FileStore, STATE_IO, check, is_held, others_claiming, saved};
