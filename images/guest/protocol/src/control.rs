//! The control channel of the reference guest: `init` (Linux) listens, `session` (Win32) connects.
//!
//! TCP on the guest's loopback, because Wine gives Win32 programs plain sockets; one JSON object a line in
//! both directions. It stands where Windows has the way from acpi.sys through the kernel power manager to
//! winlogon, and back: modelled, not real.

use serde::{Deserialize, Serialize};

/// Where `init` listens inside the guest.
pub const ADDRESS: &str = "127.0.0.1:4141";

/// From `init` to `session`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "kebab-case")]
pub enum ToSession {
    /// The ACPI power button was pressed.
    PowerButton,
    /// The guest agent was asked to shut down: a forced end, as EWX_FORCE.
    AgentShutdown,
    /// The guest agent was asked to restart: a forced end, then a reset.
    AgentReboot,
    /// A key or the pointer was used: idle time starts anew, and a sleeping display wakes. Sent at most
    /// once a second.
    Input,
    /// The machine is back from a sleep that `init` entered on request.
    Resumed {
        /// Where it comes from: `s3` or `s4`.
        from: String,
    },
}

/// From `session` to `init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum ToInit {
    /// The service phase has come to the guest agent: end it (its channel closes on the host).
    StopAgent,
    /// Session and services are done: end Wine, unmount the volume, enter S5.
    PowerOff,
    /// The same, but reset instead of S5.
    Reboot,
    /// Enter S3.
    Suspend,
    /// Enter S4.
    Hibernate,
    /// Switch the display on or off (DPMS), as Windows does after VIDEOIDLE and for PBUTTONACTION 4.
    Display {
        /// True: on.
        on: bool,
    },
    /// A shutdown begins: winlogon writes event 1074 then.
    ShutdownInitiated {
        /// Who asked: as in `session-ending`.
        by: String,
    },
    /// A service did not stop in its time after its preshutdown control: the service manager writes event 7043 then.
    ServiceTimedOut {
        /// Its service name.
        service: String,
    },
    /// This much of the update work is done; 100 only when all of it was done in its time.
    UpdateWork {
        /// 0 to 100.
        percent: u32,
    },
    /// Crash the kernel now (sysrq): the end of a shutdown that a driver does not survive.
    Crash,
}

/// Writes a message as its line, with the line feed.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Reads a message from its line; `None` for anything else.
pub fn decode<T: for<'de> Deserialize<'de>>(line: &str) -> Option<T> {
    serde_json::from_str(line.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        let wire = encode(&ToInit::PowerOff);
        assert_eq!(decode(&String::from_utf8(wire).unwrap()), Some(ToInit::PowerOff));
        assert_eq!(decode::<ToSession>("{\"tell\":\"explode\"}"), None);
        assert_eq!(
            decode("{\"tell\":\"resumed\",\"from\":\"s4\"}"),
            Some(ToSession::Resumed { from: "s4".into() })
        );
        assert_eq!(encode(&ToInit::Display { on: false }), b"{\"ask\":\"display\",\"on\":false}\n");
    }
}
