//! Who holds which server-side resource.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rowtide_sdk::{Claims, Class, Code, Error, Origin, Result};

use crate::offsets::others_claiming;

/// RT4008: another connector holds the slot or the publication.
const CLAIMED: Code = Code("RT4008");

/// The claims of all connectors of this process.
#[derive(Debug, Clone, Default)]
pub struct ClaimRegistry(Arc<Mutex<HashMap<String, String>>>);

/// One connector's claims, to be saved with its position.
#[derive(Debug)]
pub(crate) struct ConnectorClaims {
    registry: ClaimRegistry,
    state_dir: PathBuf,
    connector: String,
    held: Mutex<Vec<String>>,
}

impl ConnectorClaims {
    pub(crate) fn new(
        registry: ClaimRegistry,
        state_dir: PathBuf,
        connector: String,
        held: Vec<String>,
    ) -> Self {
        Self { registry, state_dir, connector, held: Mutex::new(held) }
    }

    /// What is held, for the saved state.
    pub(crate) fn held(&self) -> MutexGuard<'_, Vec<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, resource: &str, holder: &str) -> Error {
        Error::new(
            Class::Fatal,
            Origin::Source,
            CLAIMED,
            format!("{resource} belongs to connector {holder}, not to {}", self.connector),
        )
        .with_remedy(format!(
            "use another slot (and publication, or `publication_management: external` for one that both \
             read), or, if {holder} was renamed to {0}, give it its old name back, or move \
             its state away and run `rowtide position adopt --connector {0}`",
            self.connector
        ))
    }
}

impl Claims for ConnectorClaims {
    fn claim(&self, resource: &str) -> Result<()> {
        {
            let mut registry = self.registry.0.lock().unwrap_or_else(PoisonError::into_inner);
            match registry.get(resource) {
                Some(holder) if *holder != self.connector => {
                    return Err(self.refuse(resource, holder));
                }
                Some(_) => {}
                None => {
                    registry.insert(resource.to_owned(), self.connector.clone());
                }
            }
        }
        if let Some(holder) = others_claiming(&self.state_dir, &self.connector, resource)? {
            return Err(self.refuse(resource, &holder));
        }
        let mut held = self.held();
        if !held.iter().any(|known| known == resource) {
            held.push(resource.to_owned());
        }
        Ok(())
    }
}
