//! How values are decoded: one decoder per type, chosen when a table is learned. Nothing here does I/O
//! or panics on any bytes.

pub mod json;
