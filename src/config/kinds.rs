//! What a connector crate offers to the configuration, without the host naming any connector.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rowtide_sdk::{BoxFuture, Code, Finding, Result, Sink, Source};
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

/// What a source or sink may know of the connector it is built for.
#[derive(Debug, Clone, Copy)]
pub struct BuildContext<'a> {
    /// The connector's name.
    pub connector: &'a str,
    /// [`crate::config::Config::memory`], in bytes.
    pub memory: usize,
    /// [`crate::config::Config::max_event`], in bytes.
    pub max_event: usize,
}

/// Builds one connector's source, again for every restart.
pub trait SourceFactory: Send + Sync + fmt::Debug {
    /// A source that has not connected yet.
    ///
    /// # Errors
    /// Fatal where the settings cannot work (a certificate that cannot be read).
    fn build(&self, cx: &BuildContext<'_>) -> Result<Box<dyn Source>>;

    /// The preflight of `rowtide check`: connects, looks, changes nothing.
    fn check<'a>(&'a self, cx: &'a BuildContext<'a>) -> BoxFuture<'a, Vec<Finding>>;

    /// A text for the server-side resource that only one connector may use (a replication slot on a
    /// server), as far as the settings tell; without secrets.
    fn resource(&self) -> Option<String>;
}

/// Builds one connector's sink, again for every restart.
pub trait SinkFactory: Send + Sync + fmt::Debug {
    /// A sink that has not connected yet.
    ///
    /// # Errors
    /// Fatal where the settings cannot work.
    fn build(&self, cx: &BuildContext<'_>) -> Result<Box<dyn Sink>>;

    /// The preflight of `rowtide check`: connects, looks, changes nothing.
    fn check<'a>(&'a self, cx: &'a BuildContext<'a>) -> BoxFuture<'a, Vec<Finding>>;

    /// A text for the target that only one connector may use (a folder); without secrets.
    fn resource(&self) -> Option<String>;
}

/// The JSON Schema of a kind's own settings, without `type` and the common fields.
pub type KindSchema = fn(&mut SchemaGenerator) -> Schema;

/// Something wrong with a kind's own settings that its schema cannot say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingProblem {
    /// The connector's own code, where it has one; else RT1018.
    pub code: Option<Code>,
    /// The field within the settings, such as `tls.ca`; empty for the settings as a whole.
    pub field: String,
    /// What is so; never quotes a secret.
    pub message: String,
    /// What mends it.
    pub remedy: Option<String>,
}

/// Reads a kind's settings. Relative files among them are relative to `folder`, that of the
/// configuration file.
pub type Parse<F> = fn(settings: Value, folder: &Path) -> Result<Arc<F>, Vec<SettingProblem>>;

/// One kind of source.
#[derive(Debug, Clone, Copy)]
pub struct SourceKind {
    /// The `type` in the file.
    pub name: &'static str,
    /// Its settings.
    pub schema: KindSchema,
    /// Reads its settings, which already passed the schema. Problems never quote a secret.
    pub parse: Parse<dyn SourceFactory>,
}

/// One kind of sink.
#[derive(Debug, Clone, Copy)]
pub struct SinkKind {
    /// The `type` in the file.
    pub name: &'static str,
    /// Its settings.
    pub schema: KindSchema,
    /// Reads its settings, which already passed the schema. Problems never quote a secret.
    pub parse: Parse<dyn SinkFactory>,
}

/// The kinds of sources and sinks this build knows.
#[derive(Debug, Clone, Copy)]
pub struct Kinds {
    /// Sources.
    pub sources: &'static [SourceKind],
    /// Sinks.
    pub sinks: &'static [SinkKind],
}
