//! What the engine knows about guests: the agent, and per family how things are done inside.

pub mod agent;
pub mod driver;
pub mod power_policy;
pub mod registry_facts;
