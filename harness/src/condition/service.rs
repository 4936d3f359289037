//! The probe as a service: what several conditions put into a guest.

use std::time::{Duration, Instant};

use super::Proof;
use crate::disk::{Hive, RegistryValue};
use crate::evidence::Evidence;
use crate::guest::driver::GuestDriver;
use crate::inject::HiveEdit;
use crate::machine::agent::AgentError;
use crate::screen_texts::{BLOCKED_SHUTDOWN, SHUTTING_DOWN, STOPPING_SERVICES};

/// Whether the last screen is that of the services' phase: the plain one, which comes when all applications
/// have gone (fact sheet G.3). A screen that names an application says "shutting down" as well, and no
/// service has been told yet.
pub(super) fn screen_waits_for_services(evidence: &Evidence) -> bool {
    let plain = evidence.last_screen_line_is(SHUTTING_DOWN) || evidence.last_screen_shows(STOPPING_SERVICES);
    plain && !evidence.last_screen_shows(BLOCKED_SHUTDOWN)
}

/// How long an automatic service may take to start once the desktop is there.
const START_LIMIT: Duration = Duration::from_secs(20);

/// An auto-start service that takes its time when it is told to stop.
#[derive(Debug, Clone, Copy)]
pub(super) struct StandIn<'a> {
    pub(super) name: &'a str,
    /// How long it takes to stop.
    pub(super) seconds: u32,
    /// PreshutdownTimeout, milliseconds, of a service that accepts PRESHUTDOWN; always written, because its default
    /// differs between Windows builds (180 s before 15063, 10 s from it on). `None`: an ordinary service, stopped
    /// in the phase after that one, within WaitToKillServiceTimeout.
    pub(super) preshutdown_ms: Option<u32>,
}

impl StandIn<'_> {
    fn command(&self) -> String {
        let phase = if self.preshutdown_ms.is_some() { " --preshutdown" } else { "" };
        format!(r"C:\softoff\probe.exe service {}{phase} --stop-seconds {}", self.name, self.seconds)
    }

    /// The values that CreateService would write (winsvc.h: own process 0x10, automatic start 2).
    pub(super) fn edits(&self) -> Vec<HiveEdit> {
        let mut values = vec![
            ("Type", RegistryValue::Dword(0x10)),
            ("Start", RegistryValue::Dword(2)),
            ("ErrorControl", RegistryValue::Dword(1)),
            ("ImagePath", RegistryValue::ExpandString(self.command())),
            ("DisplayName", RegistryValue::String(self.name.to_owned())),
            ("ObjectName", RegistryValue::String("LocalSystem".into())),
        ];
        values.extend(self.preshutdown_ms.map(|ms| ("PreshutdownTimeout", RegistryValue::Dword(ms))));
        let edit = |(name, value): (&str, RegistryValue)| {
            HiveEdit::new(Hive::System, format!(r"CurrentControlSet\Services\{}", self.name), name, value)
        };
        values.into_iter().map(edit).collect()
    }

    /// Proven by the service manager: the service runs. One that is installed and not yet started is waited for: on a
    /// busy host the desktop was seen ready before it.
    pub(super) async fn prove(&self, guest: &GuestDriver) -> Result<Proof, AgentError> {
        let began = Instant::now();
        let present = loop {
            let answer = guest.run("sc", &["query", self.name]).await?;
            // The state's number and word are not localised (sc.exe prints `STATE : 4 RUNNING`).
            let runs = answer.stdout.contains("RUNNING");
            if runs || answer.code != Some(0) || began.elapsed() > START_LIMIT {
                break runs;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        let evidence = format!("sc query {}: {}", self.name, if present { "RUNNING" } else { "not running" });
        Ok(Proof { present, evidence })
    }
}

/// The time that Windows gives a service without a value of its own, from build 15063 on (fact sheet B.0).
const DEFAULT_MS: u32 = 10_000;

/// The remedy for a service with too long a time.
pub(super) fn shorten(name: &str) -> HiveEdit {
    HiveEdit::new(
        Hive::System,
        format!(r"CurrentControlSet\Services\{name}"),
        "PreshutdownTimeout",
        RegistryValue::Dword(DEFAULT_MS),
    )
}
