//! Where a pipeline's position is kept when its sink cannot hold it: one file per connector; and a note of where a sink that
//! can has it.

mod file;
mod kept;

pub use file::{FileStore, STATE_IO, check, is_held, others_claiming, saved};
pub use kept::{KeptNote, kept};
