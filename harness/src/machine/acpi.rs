//! The ACPI power button as the guest's registers show it.
//!
//! QEMU delivers a press only if the guest has set PWRBTN_EN in PM1_EN; otherwise the press is dropped
//! without a word (hw/acpi/core.c, acpi_pm1_evt_power_down). It then sets PWRBTN_STS in PM1_STS and raises
//! the SCI; the operating system's ACPI driver clears the bit by writing it. So the two registers tell,
//! in any language and for any operating system, whether a press can be heard and whether it was taken.

use std::time::Duration;

use serde_json::{Value, json};

use super::qmp::{QmpClient, QmpError};

/// Bit 8 of PM1_STS and PM1_EN (ACPI specification, fixed hardware registers).
const PWRBTN: u16 = 1 << 8;

/// Where firmware puts the power-management I/O block. SeaBIOS uses 0x600 on both machines, OVMF 0xb000 on
/// `pc` (PIIX4) and 0x600 on `q35` (ICH9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PmBase(pub u16);

impl PmBase {
    /// SeaBIOS on `pc` and `q35`, OVMF on `q35`.
    pub const COMMON: PmBase = PmBase(0x600);
    /// OVMF on `pc`.
    pub const OVMF_PIIX4: PmBase = PmBase(0xb000);
}

/// Where a machine of which nothing is known has its block, by QEMU's own map of its I/O ports (HMP
/// `info mtree`): exact for every firmware. Where the map has none, a `pc` or `q35` is one whose firmware has
/// not mapped it yet. `None` for machines whose button is no ACPI fixed hardware (microvm, ARM): their
/// registers cannot be read this way.
pub async fn locate(qmp: &QmpClient, limit: Duration) -> Result<Option<PmBase>, QmpError> {
    let line = json!({ "command-line": "info mtree" });
    let map = qmp.execute_raw("human-monitor-command", line, limit).await?;
    if let Some(base) = map.as_str().and_then(mapped) {
        return Ok(Some(base));
    }
    let machine = json!({ "path": "/machine", "property": "type" });
    let machine = qmp.execute_raw("qom-get", machine, limit).await?;
    let is_pc = machine.as_str().is_some_and(|m| m.contains("-i440fx-") || m.contains("-q35-"));
    Ok(is_pc.then_some(PmBase::COMMON))
}

/// The map's line is `0000000000000600-0000000000000603 (prio 0, i/o): acpi-evt`.
fn mapped(map: &str) -> Option<PmBase> {
    let line = map.lines().map(str::trim).find(|line| line.ends_with(" acpi-evt"))?;
    let (start, _) = line.split_once('-')?;
    u16::from_str_radix(start.trim_start_matches('0'), 16).ok().map(PmBase)
}

/// Whether a press can be heard, and whether one waits to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ButtonRegisters {
    /// PWRBTN_EN: the guest wants the button's interrupt.
    pub enabled: bool,
    /// PWRBTN_STS: a press was signalled and not yet taken.
    pub pending: bool,
}

/// Reads both registers (QMP's `human-monitor-command`, HMP `i /h`: PM1_STS at the base, PM1_EN two bytes
/// on). Reading has no side effect in QEMU. `None` when the monitor answers in another form.
pub async fn read(
    qmp: &QmpClient,
    base: PmBase,
    limit: Duration,
) -> Result<Option<ButtonRegisters>, QmpError> {
    let status = register(qmp, base.0, limit).await?;
    let enable = register(qmp, base.0.saturating_add(2), limit).await?;
    Ok(status.zip(enable).map(|(status, enable)| decode(status, enable)))
}

fn decode(status: u16, enable: u16) -> ButtonRegisters {
    // All ones from both: nothing answers there. Firmware has not mapped the block yet, so nobody listens.
    if (status, enable) == (0xffff, 0xffff) {
        return ButtonRegisters { enabled: false, pending: false };
    }
    ButtonRegisters { enabled: enable & PWRBTN != 0, pending: status & PWRBTN != 0 }
}

async fn register(qmp: &QmpClient, port: u16, limit: Duration) -> Result<Option<u16>, QmpError> {
    let line = json!({ "command-line": format!("i /hx {port:#x}") });
    let answer = qmp.execute_raw("human-monitor-command", line, limit).await?;
    Ok(answer.as_str().and_then(parse).or_else(|| Value::as_u64(&answer).and_then(|v| u16::try_from(v).ok())))
}

/// HMP answers `portw[0x0600] = 0x0001`.
fn parse(answer: &str) -> Option<u16> {
    let text = answer.trim().rsplit('=').next()?.trim();
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::listening(0x0001, 0x0120, true, false)]
    #[case::waiting(0x0101, 0x0120, true, true)]
    #[case::before_the_system(0x0001, 0x0000, false, false)]
    #[case::before_the_firmware(0xffff, 0xffff, false, false)]
    fn registers(#[case] status: u16, #[case] enable: u16, #[case] enabled: bool, #[case] pending: bool) {
        assert_eq!(decode(status, enable), ButtonRegisters { enabled, pending });
    }

    #[rstest]
    #[case::mapped(
        "address-space: I/O\n      0000000000000600-0000000000000603 (prio 0, i/o): acpi-evt\r\n",
        Some(0x600)
    )]
    #[case::by_ovmf("    000000000000b000-000000000000b003 (prio 0, i/o): acpi-evt", Some(0xb000))]
    #[case::switched_off("    0000000000000600-0000000000000603 (prio 0, i/o): acpi-evt [disabled]", None)]
    #[case::another("    0000000000000604-0000000000000605 (prio 0, i/o): acpi-cnt", None)]
    #[case::no_port("    00000000fec00000-00000000fec00fff (prio 0, i/o): acpi-evt", None)]
    #[case::garbage("- acpi-evt", None)]
    #[case::empty("", None)]
    fn qemus_map_of_ports(#[case] map: &str, #[case] base: Option<u16>) {
        assert_eq!(mapped(map), base.map(PmBase));
    }

    #[rstest]
    #[case("portw[0x0600] = 0x0101\r\n", Some(0x101))]
    #[case("portw[0x0602] = 0x0000", Some(0))]
    #[case("unknown command: 'i'", None)]
    #[case("", None)]
    fn hmp_answers(#[case] answer: &str, #[case] value: Option<u16>) {
        assert_eq!(parse(answer), value);
    }
}
