//! What the engine knows about guests: per family how things are done inside, and what their registry says.

pub mod collect;
pub mod driver;
pub mod live_facts;
pub mod power_policy;
pub mod quoting;
pub mod reg_listing;
pub mod registry_facts;
pub mod session;
pub mod upload;
pub mod windows_versions;
