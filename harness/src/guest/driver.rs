//! Doing things inside a guest through its agent, the same words for every family.
//!
//! Only built-in programs are used: `reg`, `tasklist`. The reference guest runs Wine's programs of the same
//! names, through its `winrun`.

use std::time::Duration;

use super::reg_listing::{self, ListedKey, live_value};
use crate::image::GuestFamily;
use crate::machine::agent::{Agent, AgentError, ExecResult};

/// How long a built-in program may take. Wine's `reg` needs 1 to 3 s under TCG (measured); a busy host
/// doubles that.
const PROGRAM_LIMIT: Duration = Duration::from_secs(60);

/// How long staging an update may take.
const SERVICING_LIMIT: Duration = Duration::from_secs(2 * 3600);

/// A value of the guest's live registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveValue {
    /// REG_DWORD.
    Dword(u32),
    /// REG_SZ and every other type, as `reg` prints it.
    Text(String),
}

impl LiveValue {
    /// Whether it is this text, as far as `reg` can print it. `reg` prints in the console's code page: letters
    /// that the page lacks come as `?` (seen with Korean on the reference guest), others as bytes that are
    /// not UTF-8. What is not ASCII in `text` therefore matches anything.
    pub fn is_text(&self, text: &str) -> bool {
        let LiveValue::Text(printed) = self else { return false };
        let mut parts = text.split(|c: char| !c.is_ascii());
        let (first, last) = (parts.next().unwrap_or_default(), parts.next_back());
        let Some(last) = last else { return printed == first };
        let inner = printed.strip_prefix(first).and_then(|rest| rest.strip_suffix(last));
        inner.is_some_and(|mut rest| {
            parts.all(|part| {
                let Some((_, after)) = rest.split_once(part) else { return false };
                rest = after;
                true
            })
        })
    }
}

/// A guest whose agent answers.
#[derive(Debug, Clone)]
pub struct GuestDriver {
    family: GuestFamily,
    agent: Agent,
}

impl GuestDriver {
    /// A driver for a guest of this family.
    pub fn new(family: GuestFamily, agent: Agent) -> GuestDriver {
        GuestDriver { family, agent }
    }

    /// The agent behind it.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The guest's family.
    pub fn family(&self) -> GuestFamily {
        self.family
    }

    /// Runs a Win32 console program of the system folder.
    pub async fn run(&self, program: &str, args: &[&str]) -> Result<ExecResult, AgentError> {
        self.run_within(program, args, PROGRAM_LIMIT).await
    }

    /// The same for one that may take long: servicing takes minutes, on Server 2016 many.
    pub async fn run_long(&self, program: &str, args: &[&str]) -> Result<ExecResult, AgentError> {
        self.run_within(program, args, SERVICING_LIMIT).await
    }

    async fn run_within(
        &self,
        program: &str,
        args: &[&str],
        limit: Duration,
    ) -> Result<ExecResult, AgentError> {
        match self.family {
            GuestFamily::Windows | GuestFamily::Reactos => {
                self.agent.exec(&format!("{program}.exe"), args, limit).await
            }
            GuestFamily::Reference => {
                let mut words = vec![program];
                words.extend(args);
                self.agent.exec("/usr/bin/winrun", &words, limit).await
            }
        }
    }

    /// Suspends the guest to memory. On success the agent does not answer (qga/qapi-schema.json).
    pub async fn suspend_to_ram(&self) -> Result<(), AgentError> {
        match self.agent.raw("guest-suspend-ram", serde_json::json!({}), Duration::from_secs(5)).await {
            // libvirt tells that the agent went away with the answer.
            Ok(_) | Err(AgentError::Timeout { .. } | AgentError::Closed { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Hibernates the guest (S4). On success the agent does not answer.
    pub async fn suspend_to_disk(&self) -> Result<(), AgentError> {
        match self.agent.raw("guest-suspend-disk", serde_json::json!({}), Duration::from_secs(5)).await {
            Ok(_) | Err(AgentError::Timeout { .. } | AgentError::Closed { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Reads one value of the live registry by `reg query`; `None` when it does not exist.
    pub async fn registry(&self, key: &str, name: &str) -> Result<Option<LiveValue>, AgentError> {
        let result = self.run("reg", &["query", key, "/v", name]).await?;
        Ok(parse_reg_query(&result.stdout, name))
    }

    /// What `reg query KEY MORE` lists, with what else the program said; an absent key lists nothing.
    pub async fn list(&self, key: &str, more: &[&str]) -> Result<(Vec<ListedKey>, ExecResult), AgentError> {
        let mut words = vec!["query", key];
        words.extend(more);
        let result = self.run("reg", &words).await?;
        Ok((reg_listing::parse(&result.stdout), result))
    }

    /// Whether a process of this program runs, by `tasklist`.
    pub async fn runs(&self, program: &str) -> Result<bool, AgentError> {
        let result = self.run("tasklist", &[]).await?;
        let wanted = program.to_ascii_lowercase();
        Ok(result.stdout.lines().any(|line| line.to_ascii_lowercase().starts_with(&wanted)))
    }
}

/// `reg query` prints `    NAME    REG_TYPE    DATA` under the key's line. Type names are not localised.
fn parse_reg_query(stdout: &str, name: &str) -> Option<LiveValue> {
    stdout.lines().find_map(|line| {
        let rest = line.trim_start();
        let (found, rest) = rest.split_at_checked(name.len())?;
        if !found.eq_ignore_ascii_case(name) || !rest.starts_with(' ') {
            return None;
        }
        let rest = rest.trim_start();
        let (kind, data) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        live_value(kind.strip_prefix("REG_")?, data)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("a \"b\" c", "a \"b\" c", true)]
    #[case("a \"b\" c", "a \"b\" d", false)]
    #[case("hangs --title \"앱 - 17\" --text \"x\"", "hangs --title \"? - 17\" --text \"x\"", true)]
    #[case("hangs --title \"앱앱\"", "hangs --title \"\u{fffd}a\u{fffd}A\"", true)]
    #[case("hangs --title \"앱 - 17\" --text \"x\"", "hangs --title \"? - 18\" --text \"x\"", false)]
    #[case("hangs --title \"앱\"", "refuses --title \"?\"", false)]
    #[case("a앱a", "a", false)]
    #[case("앱", "", true)]
    fn what_reg_cannot_print_is_left_open(#[case] text: &str, #[case] printed: &str, #[case] same: bool) {
        assert_eq!(LiveValue::Text(printed.into()).is_text(text), same);
    }

    #[rstest]
    #[case(
        "\r\nHKEY_LOCAL_MACHINE\\X\r\n    ACSettingIndex    REG_DWORD    0x0\r\n",
        Some(LiveValue::Dword(0))
    )]
    #[case("HKEY\r\n    acsettingindex    REG_DWORD    0x3\r\n", Some(LiveValue::Dword(3)))]
    #[case("    ACSettingIndex    REG_SZ    a b\r\n", Some(LiveValue::Text("a b".into())))]
    #[case("    ACSettingIndexes    REG_DWORD    0x3\r\n", None)]
    #[case("ERROR: The system was unable to find the specified registry key", None)]
    #[case("    ACSettingIndex    REG_DWORD    0xzz", None)]
    #[case("", None)]
    fn reg_query_output(#[case] stdout: &str, #[case] value: Option<LiveValue>) {
        assert_eq!(parse_reg_query(stdout, "ACSettingIndex"), value);
    }
}
