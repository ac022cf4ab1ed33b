//! Row schemas: derived from tables, versioned, and checked without building a tree.
//!
//! ```text
//! Table ─► Projection (visible columns, masks) ─► RowSchema ─► version (major.minor), what changed
//!                                                    └──────► residual check per row
//! ```

mod change;
mod form;
mod node;
mod record;
mod row;
mod version;

pub use change::{Compatibility, Reason, VersionChange, What};
pub use node::{RowView, TextJson, TextNode};
pub(crate) use record::{identity_name, key_names, mask_name};
pub use row::{ColumnView, Projection, ResidualSchema, RowSchema};
pub(crate) use row::{is_always_logged, is_always_present, is_never_null};
pub(crate) use version::subject_collision;
pub use version::{Assigned, HostState, SchemaVersion, Versions};

use rowtide_sdk::{Code, Error, Origin};

/// A validator over text in place.
pub type TextValidator = jsonschema::Validator<TextJson>;

/// RT5001: a value is not of its column's type.
pub const MALFORMED_VALUE: Code = Code("RT5001");
/// RT5002: a row breaks the derived row schema.
pub const ROW_SCHEMA: Code = Code("RT5002");
/// RT5003: a row breaks the user's contract.
pub const CONTRACT: Code = Code("RT5003");
/// RT5004: an envelope breaks the envelope's schema.
pub const ENVELOPE_SCHEMA: Code = Code("RT5004");
/// RT5005: a schema cannot be compiled.
pub const BAD_SCHEMA: Code = Code("RT5005");
/// RT5006: the configured key is not in the logged identity.
pub const KEY_NOT_LOGGED: Code = Code("RT5006");
/// RT5014: a key column is excluded or redacted.
pub const KEY_NOT_SHOWN: Code = Code("RT5014");
/// RT5007: a configured column does not exist.
pub const UNKNOWN_COLUMN: Code = Code("RT5007");
/// RT5008: two tables map to one topic.
pub const TOPIC_COLLISION: Code = Code("RT5008");

/// RT5030: two tables have one schema subject.
pub const SUBJECT_COLLISION: Code = Code("RT5030");

/// Compiles a schema for text instances.
///
/// # Errors
/// Fatal where it is no valid JSON Schema.
pub fn compile(schema: &serde_json::Value, what: &str) -> Result<TextValidator, Error> {
    jsonschema::options_for::<TextJson>().build(schema).map_err(|error| {
        Error::fatal(
            Origin::Host,
            BAD_SCHEMA,
            format!("{what} cannot be compiled: {} at {}", error.masked(), error.schema_path()),
        )
    })
}
