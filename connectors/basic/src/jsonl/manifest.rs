//! The manifest: what is committed.
//!
//! One line of JSON in `<dir>/manifest.json`, replaced as a whole at every commit:
//!
//! ```json
//! {"version":1,"generation":7,"position":{…},"host":{…},
//!  "topics":{"shop.public.orders":{"segment":3,"length":8120,"opened_ms":1763657833123,
//!            "finished":false}},
//!  "sha256":"…"}
//! ```
//!
//! For a topic it names the newest segment, how many bytes of it are committed and whether it is
//! finished. Older segments are finished. A finished segment never changes and may be moved or
//! deleted by anyone. The checksum is over all bytes before `,"sha256"`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rowtide_sdk::{Checkpoint, Error, Origin, Position, Result};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::error::{BAD_MANIFEST, broken_batch};

/// The layout that this build reads and writes.
const VERSION: u32 = 1;
const CHECKSUM_FIELD: &[u8] = b",\"sha256\":\"";
const CHECKSUM_DIGITS: usize = 64;
const END: &[u8] = b"\"}";

/// The newest segment of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    /// Its number, from 1.
    pub(crate) segment: u64,
    /// Its committed bytes.
    pub(crate) length: u64,
    /// When its first line was written, in milliseconds since 1970.
    pub(crate) opened_ms: u64,
    /// Whether it will never grow again.
    pub(crate) finished: bool,
}

/// What is committed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    version: u32,
    /// Counts the replacements.
    generation: u64,
    position: Option<Box<RawValue>>,
    host: Option<Box<RawValue>>,
    /// The newest segment of each topic.
    pub(crate) topics: BTreeMap<String, Mark>,
}

/// Read before all else, so that a later layout is named rather than called damaged.
#[derive(Deserialize)]
struct Layout {
    version: u32,
}

/// A manifest as bytes, with the checksum it ends with.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) checksum: String,
}

impl Manifest {
    /// Of an empty folder.
    pub(crate) fn empty() -> Self {
        Self {
            version: VERSION,
            generation: 0,
            position: None,
            host: None,
            topics: BTreeMap::new(),
        }
    }

    /// The committed checkpoint, if there is any.
    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        let (position, host) = (self.position.as_ref()?, self.host.as_ref()?);
        Some(Checkpoint { position: Position::new(position.get()), host: Arc::from(host.get()) })
    }

    /// How often the manifest was replaced.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Counts one replacement more.
    pub(crate) fn advance(&mut self) {
        self.generation = self.generation.saturating_add(1);
    }

    /// Takes over a checkpoint.
    ///
    /// # Errors
    /// Fatal where its parts are not JSON (or null, which stands for none).
    pub(crate) fn set_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.position = Some(raw(checkpoint.position.as_str())?);
        self.host = Some(raw(&checkpoint.host)?);
        Ok(())
    }

    /// The bytes to write.
    ///
    /// # Errors
    /// Fatal where it cannot be written as JSON.
    pub(crate) fn encode(&self) -> Result<Encoded> {
        let mut bytes = serde_json::to_vec(self)
            .map_err(|error| broken_batch("does not fit a manifest").with_source(error))?;
        // The closing brace follows the checksum.
        bytes.pop();
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(CHECKSUM_FIELD);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes.extend_from_slice(END);
        bytes.push(b'\n');
        Ok(Encoded { bytes, checksum })
    }

    /// Reads a manifest back.
    ///
    /// # Errors
    /// RT3503 where a byte is missing or changed, or a later release wrote it.
    pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<(Self, String)> {
        let damaged = || {
            Error::fatal(
                Origin::Sink,
                BAD_MANIFEST,
                format!("the manifest {} is damaged", path.display()),
            )
            .with_remedy(
                "move the folder away (its files stay readable) and start with an empty one, or \
                 restore the whole folder from a backup; see `rowtide explain RT3503`",
            )
        };
        let (body, stored) = split_checksum(bytes).ok_or_else(damaged)?;
        if checksum(body) != stored {
            return Err(damaged());
        }
        let mut json = body.to_vec();
        json.push(b'}');
        let layout: Layout =
            serde_json::from_slice(&json).map_err(|error| damaged().with_source(error))?;
        if layout.version != VERSION {
            return Err(Error::fatal(
                Origin::Sink,
                BAD_MANIFEST,
                format!(
                    "the manifest {} has layout {}, this release knows {VERSION}",
                    path.display(),
                    layout.version
                ),
            )
            .with_remedy("use the release of rowtide that wrote the folder, or a later one"));
        }
        let manifest: Self =
            serde_json::from_slice(&json).map_err(|error| damaged().with_source(error))?;
        if manifest.position.is_some() != manifest.host.is_some() {
            return Err(damaged());
        }
        Ok((manifest, stored.to_owned()))
    }
}

fn raw(json: &str) -> Result<Box<RawValue>> {
    match RawValue::from_string(json.to_owned()) {
        Ok(raw) if raw.get() != "null" => Ok(raw),
        Ok(_) => Err(broken_batch("has no position")),
        Err(error) => Err(broken_batch("has a checkpoint that is not JSON").with_source(error)),
    }
}

/// The bytes that the checksum is over, and the checksum as text.
fn split_checksum(bytes: &[u8]) -> Option<(&[u8], &str)> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes).strip_suffix(END)?;
    let (bytes, stored) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_DIGITS)?)?;
    Some((bytes.strip_suffix(CHECKSUM_FIELD)?, std::str::from_utf8(stored).ok()?))
}

fn checksum(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    Sha256::digest(bytes).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let mut manifest = Manifest::empty();
        let position = r#"{"confirm":"0/16B3800","in_tx":{"commit":"0/16B3900","next_index":7}}"#;
        manifest
            .set_checkpoint(&Checkpoint {
                position: Position::new(position),
                host: Arc::from(r#"{"schemas":[1.50,"é"]}"#),
            })
            .unwrap();
        manifest.advance();
        for (name, segment) in [("shop.public.orders", 3), ("shop.dead_letter", 1)] {
            let mark =
                Mark { segment, length: 8120, opened_ms: 1_763_657_833_123, finished: false };
            manifest.topics.insert(name.to_owned(), mark);
        }
        manifest
    }

    #[test]
    fn what_is_written_is_read_back_to_the_byte() {
        let manifest = sample();
        let encoded = manifest.encode().unwrap();
        let (read, checksum) = Manifest::decode(&encoded.bytes, Path::new("m")).unwrap();
        assert_eq!(checksum, encoded.checksum);
        assert_eq!(read.checkpoint(), manifest.checkpoint());
        assert_eq!(read.topics, manifest.topics);
        assert_eq!(read.generation(), 1);
        assert_eq!(read.encode().unwrap().bytes, encoded.bytes);
        let json: serde_json::Value = serde_json::from_slice(&encoded.bytes).unwrap();
        assert_eq!(json["position"]["confirm"], "0/16B3800");
        let empty = Manifest::empty().encode().unwrap();
        let (read, _) = Manifest::decode(&empty.bytes, Path::new("m")).unwrap();
        assert_eq!(read.checkpoint(), None);
    }

    #[test]
    fn torn_at_any_length_it_is_refused() {
        let bytes = sample().encode().unwrap().bytes;
        // Without its line feed alone it is still whole.
        for length in 0..bytes.len() - 1 {
            let error = Manifest::decode(&bytes[..length], Path::new("m")).unwrap_err();
            assert_eq!(error.code(), BAD_MANIFEST, "length {length}");
        }
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let bytes = sample().encode().unwrap().bytes;
        for index in 0..bytes.len() - 1 {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[index] ^= 1 << bit;
                assert!(
                    Manifest::decode(&damaged, Path::new("m")).is_err(),
                    "byte {index}, bit {bit}"
                );
            }
        }
    }

    #[test]
    fn a_later_layout_is_named() {
        let body = br#"{"version":9,"something":"else""#;
        let mut bytes = body.to_vec();
        bytes.extend_from_slice(CHECKSUM_FIELD);
        bytes.extend_from_slice(checksum(body).as_bytes());
        bytes.extend_from_slice(END);
        let error = Manifest::decode(&bytes, Path::new("m")).unwrap_err();
        assert!(error.to_string().contains("layout 9"), "{error}");
    }

    #[test]
    fn a_checkpoint_must_be_json() {
        for (position, host) in [("", "{}"), ("{}", "{"), ("null", "{}")] {
            let checkpoint =
                Checkpoint { position: Position::new(position), host: Arc::from(host) };
            assert!(Manifest::empty().set_checkpoint(&checkpoint).is_err(), "{position} {host}");
        }
    }
}
