//! What libvirt sends to QEMU, by its own log: the lines of `qemu.qemu_monitor` at level `info`
//! (`QEMU_MONITOR_SEND_MSG`, `QEMU_MONITOR_RECV_REPLY`; src/qemu/qemu_monitor.c).

use serde_json::Value;

/// Filter and level that bring these lines into the log.
pub(super) const FILTER: &str = "2:qemu.qemu_monitor";

const SENT: &str = "QEMU_MONITOR_SEND_MSG: mon=";
const REPLY: &str = "QEMU_MONITOR_RECV_REPLY: mon=";

/// The messages after `mark`, each with its monitor's address.
fn messages<'a>(
    log: &'a str,
    mark: &'static str,
    member: &'static str,
) -> impl Iterator<Item = (&'a str, Value)> {
    log.split(mark).skip(1).filter_map(move |rest| {
        let (monitor, rest) = rest.split_once(' ')?;
        // libvirt appends `fd=-1` in a line of its own.
        let message = rest.strip_prefix(member)?;
        let value = serde_json::Deserializer::from_str(message).into_iter::<Value>().next()?.ok()?;
        Some((monitor, value))
    })
}

/// The commands that were sent to a monitor, in order.
pub(super) fn commands(log: &str, monitor: &str) -> Vec<String> {
    let name = |value: Value| value.get("execute")?.as_str().map(|name| crate::text::printable(name, 60));
    messages(log, SENT, "msg=")
        .filter(|(of, _)| *of == monitor)
        .filter_map(|(_, value)| name(value))
        .collect()
}

/// The monitor that last answered `query-name` with this name.
pub(super) fn monitor_of(log: &str, name: &str) -> Option<String> {
    let named =
        |value: &Value| value.get("return").and_then(|v| v.get("name")).and_then(Value::as_str) == Some(name);
    messages(log, REPLY, "reply=")
        .filter(|(_, value)| named(value))
        .last()
        .map(|(monitor, _)| monitor.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As libvirt 9.0 writes it, with two domains.
    const LOG: &str = "2026-11-24 21:00:00.001+0000: 7: info : qemuMonitorSend:861 : QEMU_MONITOR_SEND_MSG: mon=0x1 msg={\"execute\":\"query-name\",\"id\":\"libvirt-9\"}\r\n fd=-1
2026-11-24 21:00:00.002+0000: 7: info : qemuMonitorJSONIOProcessLine:208 : QEMU_MONITOR_RECV_REPLY: mon=0x1 reply={\"return\": {\"name\": \"softoff-a\"}, \"id\": \"libvirt-9\"}
2026-11-24 21:00:01.000+0000: 7: info : qemuMonitorSend:861 : QEMU_MONITOR_SEND_MSG: mon=0x2 msg={\"execute\":\"cont\",\"id\":\"libvirt-3\"}\r\n fd=-1
2026-11-24 21:00:02.000+0000: 7: info : qemuMonitorSend:861 : QEMU_MONITOR_SEND_MSG: mon=0x1 msg={\"execute\":\"system_powerdown\",\"id\":\"libvirt-10\"}\r\n fd=-1
2026-11-24 21:00:02.001+0000: 7: info : qemuMonitorJSONIOProcessLine:208 : QEMU_MONITOR_RECV_REPLY: mon=0x1 reply={\"return\": {}, \"id\": \"libvirt-10\"}
";

    #[test]
    fn each_monitor_has_its_own_commands() {
        assert_eq!(commands(LOG, "0x1"), ["query-name", "system_powerdown"]);
        assert_eq!(commands(LOG, "0x2"), ["cont"]);
        assert_eq!(monitor_of(LOG, "softoff-a").as_deref(), Some("0x1"));
        assert_eq!(monitor_of(LOG, "softoff-b"), None);
        // A log that is cut in the middle of a message.
        let cut = LOG.split("powerdown").next().unwrap_or_default();
        assert_eq!(commands(cut, "0x1"), ["query-name"]);
    }
}
