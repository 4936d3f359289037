//! Whether a program in the guest has the guest agent's channel open.
//!
//! QEMU knows it of every virtio-serial port and tells changes by VSERPORT_CHANGE; the state itself is shown
//! by HMP `info qtree` only. So it can be known without the agent's socket, which somebody else may hold.

use std::time::Duration;

use serde_json::json;

use super::qmp::{QmpClient, QmpError};

/// The agent's port, by the name that agents of every system look for.
const NAME: &str = "name = \"org.qemu.guest_agent.0\"";

/// Whether the agent's port is open in the guest; `None` when the machine has no such port.
pub async fn agent_open(qmp: &QmpClient, limit: Duration) -> Result<Option<bool>, QmpError> {
    let line = json!({ "command-line": "info qtree" });
    let tree = qmp.execute_raw("human-monitor-command", line, limit).await?;
    Ok(tree.as_str().and_then(open))
}

/// Below the port's properties stands `port 1, guest on, host on, throttle off`.
fn open(tree: &str) -> Option<bool> {
    let lines = tree.lines().map(str::trim).skip_while(|line| *line != NAME);
    let state = lines.take_while(|line| !line.starts_with("dev: ")).find(|line| line.starts_with("port "))?;
    Some(state.contains("guest on"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const PORT: &str = "dev: virtserialport, id \"agent\"\n  nr = 1 (0x1)\n  chardev = \"agent\"\n  name = \"org.qemu.guest_agent.0\"\n";

    #[rstest]
    #[case::open("  port 1, guest on, host on, throttle off\r\n", Some(true))]
    #[case::closed("  port 1, guest off, host on, throttle off", Some(false))]
    #[case::of_another_port(
        "dev: virtserialport, id \"x\"\n  port 2, guest on, host off, throttle off",
        None
    )]
    #[case::nothing("", None)]
    fn qemus_device_tree(#[case] more: &str, #[case] expected: Option<bool>) {
        assert_eq!(open(&format!("bus: main\n{PORT}{more}")), expected);
        assert_eq!(open(more), None);
    }
}
