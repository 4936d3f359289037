//! Platforms and how long they wait before they force: `harness/data/platforms.toml`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::outcome::RequestMeans;
use crate::scenario::{FollowUp, HostAct, Policy, Request, RequestMoment, Span};

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
    /// What it does until then and at its end; absent where QEMU has nothing to replay it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Ask>,
}

/// How a platform asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The request.
    pub by: RequestMeans,
    /// Seconds after which it asks again; it asks once when absent.
    #[serde(default)]
    pub resend: Option<u64>,
    /// What it does when the time is over.
    pub force: HostAct,
    /// Where that is from.
    pub source: String,
    /// How sure it is.
    pub seen: Seen,
}

/// How long a replayed machine is watched after the platform's forced end, which takes effect at once.
const AFTER: Duration = Duration::from_secs(30);

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

    /// What it would do, as a policy; `None` where it cannot be replayed. The waits are the platform's own. Only the last
    /// one, before the forced end, is given up early, and only when the evidence shows that nothing more will come until
    /// somebody acts.
    pub fn policy(&self) -> Option<Policy> {
        let ask = self.request.as_ref()?;
        let gap = Duration::from_secs(ask.resend.unwrap_or(0));
        let presses = ask.resend.map_or(1, |every| (self.seconds / every.max(1)).max(1));
        let presses = u32::try_from(presses).unwrap_or(u32::MAX);
        let rest = self.wait().saturating_sub(gap.saturating_mul(presses - 1));
        let force =
            FollowUp { on: None, after: Some(Span(rest)), act: ask.force, cut_short: true, keys: Vec::new() };
        let request = Request {
            by: ask.by,
            presses,
            wake_key: None,
            gap: Span(gap),
            deadline: Span(self.wait() + AFTER),
            delay: Span(Duration::ZERO),
            at: RequestMoment::Ready,
            then: vec![force],
        };
        Some(Policy {
            id: self.id.clone(),
            summary: format!("as {} does", self.name),
            request,
            platform: true,
        })
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
    fn what_is_replayed_is_what_stands_in_the_file() {
        let all = platforms().unwrap();
        let asks: Vec<_> = all.iter().filter_map(|p| Some((p, p.policy()?))).collect();
        assert!(asks.len() >= 7 && all.iter().any(|p| p.id == "hyper-v" && p.policy().is_none()));
        for (platform, policy) in &asks {
            assert!(platform.request.as_ref().is_some_and(|ask| ask.source.contains("https://")));
            // The forced end comes when the platform's time is over, however often it asked before.
            let gaps = policy.request.gap.0 * (policy.request.presses - 1);
            let last = policy.request.then.last().unwrap();
            assert!(last.act.is_hard() && last.cut_short);
            assert_eq!(gaps + last.after.unwrap().0, platform.wait(), "{}", platform.id);
        }
        let nova = asks.iter().find(|(p, _)| p.id == "nova").map(|(_, policy)| policy).unwrap();
        assert_eq!((nova.request.presses, nova.request.gap.0), (6, Duration::from_secs(10)));
    }

    #[test]
    fn a_setting_is_never_shorter_than_what_was_asked() {
        let nova = platforms().unwrap().into_iter().find(|p| p.id == "nova").unwrap();
        assert!(nova.setting(Duration::from_millis(61_001)).unwrap().contains("shutdown_timeout = 62;"));
        assert!(nova.setting(Duration::from_secs(61)).unwrap().contains("shutdown_timeout = 61;"));
    }
}
