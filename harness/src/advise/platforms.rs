//! Platforms and how long they wait before they force: `harness/data/platforms.toml`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// Short name.
    pub id: String,
    /// For people.
    pub name: String,
    /// Seconds from the request to force, unless told otherwise.
    pub seconds: u64,
    /// How it is told, with `{seconds}` for the number; absent where it cannot be.
    #[serde(default)]
    pub set: Option<String>,
    /// Where the number is from.
    pub source: String,
    /// How sure it is.
    pub seen: Seen,
}

/// How sure a platform's number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// Read in the platform's own source or documentation.
    Read,
    /// Reported by others.
    Reported,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    platform: Vec<Platform>,
}

impl Platform {
    /// The wait.
    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// What to write to make it wait so long, in whole seconds.
    pub fn setting(&self, wait: Duration) -> Option<String> {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.set.as_ref().map(|set| set.replace("{seconds}", &seconds.to_string()))
    }
}

/// The platforms, in the file's order.
///
/// # Errors
/// When the file that was built in does not fit; a test keeps that from happening.
pub fn platforms() -> anyhow::Result<Vec<Platform>> {
    let file: File = toml::from_str(include_str!("../../data/platforms.toml"))?;
    Ok(file.platform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_platform_has_a_source() {
        let all = platforms().unwrap();
        let mut ids: Vec<&str> = all.iter().map(|p| p.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all.len());
        for platform in &all {
            assert!(platform.source.contains("https://") && platform.seconds > 0, "{platform:?}");
            assert!(platform.set.as_ref().is_none_or(|s| s.contains("{seconds}")), "{platform:?}");
        }
    }

    #[test]
    fn a_setting_is_never_shorter_than_what_was_asked() {
        let nova = platforms().unwrap().into_iter().find(|p| p.id == "nova").unwrap();
        assert!(nova.setting(Duration::from_millis(61_001)).unwrap().contains("shutdown_timeout = 62;"));
        assert!(nova.setting(Duration::from_secs(61)).unwrap().contains("shutdown_timeout = 61;"));
    }
}
