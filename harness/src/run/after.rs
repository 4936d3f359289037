//! What the disk tells: before the boot, and after the end.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::boot::OVERLAY;
use crate::disk::{DiskImage, VolumeFlags, fat, system_volume};
use crate::guest::registry_facts::RegistryFacts;
use crate::inspect::{Evaluation, Inspection, Written, evaluation, inspect, is_evaluation};
use crate::machine::overlay;
use crate::record::schema::Damage;
use crate::settle::last_boot;
use crate::timeline::{Observation, Seen, Source};

/// What was seen until the outcome was settled, and with it what the guest had written to its serial ports by then and
/// was read only afterwards. A machine that has ended writes nothing, so a line behind its end is older than that: it
/// gets the end's time, and stands before it. QEMU stamps the end itself, a line is stamped when it is read.
pub(super) fn with_late_lines(settled: &[Observation], all: &[Observation]) -> Vec<Observation> {
    let first = settled.len() - last_boot(settled).len();
    let find =
        |is: &dyn Fn(&Observation) -> bool| settled.iter().skip(first).position(is).map(|at| first + at);
    let off = |o: &Observation| matches!(&o.what, Seen::QmpEvent { name, .. } if name == "SHUTDOWN");
    let gone = |o: &Observation| matches!(o.what, Seen::ProcessExited { .. });
    let Some(end) = find(&off).or_else(|| find(&gone)) else { return settled.to_vec() };
    let (before, after) = settled.split_at(end);
    let Some(at_us) = after.first().map(|o| o.at_us) else { return settled.to_vec() };
    let written = |o: &&Observation| matches!(o.source, Source::Probe | Source::Console);
    let late = all.iter().filter(|o| o.at_us >= at_us).filter(written);
    let late = late.map(|o| Observation { at_us, ..o.clone() });
    let before = before.iter().filter(|o| o.at_us < at_us || !written(o)).cloned();
    before.chain(late).chain(after.iter().filter(|o| !written(o)).cloned()).collect()
}

/// What a stopped machine's disk says.
#[derive(Debug, Default)]
pub(super) struct DiskFindings {
    pub(super) damage: Damage,
    pub(super) registry: Option<RegistryFacts>,
    /// What is wrong with the overlay itself: no guest can do that.
    pub(super) overlay_trouble: Option<String>,
}

/// Reads the overlay. QEMU must have gone. `written` is what the guest said of its documents.
pub(super) async fn read_disk(folder: &Path, written: Option<Written>) -> DiskFindings {
    let overlay = folder.join(OVERLAY);
    let path = overlay.clone();
    let read = tokio::task::spawn_blocking(move || inspect(&DiskImage::open(&path)?, written));
    let mut findings = DiskFindings::default();
    match read.await {
        Ok(Ok(Inspection { report, registry })) => {
            findings.registry = registry;
            findings.damage = Damage {
                volume_dirty: report.volume_dirty(),
                volume_flags: report.volume_flags.map(|word| VolumeFlags(word).to_string()),
                trouble: (!report.troubles.is_empty()).then(|| report.troubles.join("; ")),
                disk: Some(report),
            };
        }
        Ok(Err(e)) => match fat_only(&overlay) {
            Some(damage) => findings.damage = damage,
            None => findings.damage.trouble = Some(e.to_string()),
        },
        Err(e) => findings.damage.trouble = Some(e.to_string()),
    }
    // Whose doing is it? A guest writes to its volume, and never to what holds it.
    if findings.damage.volume_dirty.is_none() {
        findings.overlay_trouble = overlay::check(&overlay).await.err().map(|e| format!("{e:#}"));
    }
    findings
}

/// A disk without NTFS may have FAT's marks (ReactOS): they are all that is read of it.
fn fat_only(overlay: &Path) -> Option<Damage> {
    let volumes = DiskImage::open(overlay).and_then(|disk| fat::fat_volumes(&disk)).ok()?;
    let said = volumes.iter().map(|(partition, marks)| {
        format!("partition {}: {:?}, dirty {}", partition.number, marks.kind, marks.is_dirty())
    });
    let volume_flags = (!volumes.is_empty()).then(|| said.collect::<Vec<_>>().join("; "))?;
    Some(Damage {
        volume_dirty: Some(volumes.iter().any(|(_, marks)| marks.is_dirty())),
        volume_flags: Some(volume_flags),
        ..Damage::default()
    })
}

/// What the registry says before the boot; `None` when it cannot be read. An error when the image is an evaluation
/// Windows past its expiry: it shuts down by itself every hour, so that a run would say nothing of the button.
pub(super) async fn read_registry(folder: &Path) -> anyhow::Result<Option<RegistryFacts>> {
    let overlay = folder.join(OVERLAY);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let read = move || -> anyhow::Result<Option<RegistryFacts>> {
        let volume = DiskImage::open(&overlay).and_then(|disk| system_volume(&disk));
        let Ok(registry) = volume.and_then(|volume| RegistryFacts::read(&volume)) else { return Ok(None) };
        if is_evaluation(&registry)
            && let Ok(found) = DiskImage::open(&overlay).and_then(|disk| inspect(&disk, None))
            && let Evaluation::Expired { why } = evaluation(&found.report, &registry, now)
        {
            anyhow::bail!(
                "the image is an evaluation Windows past its expiry ({why}), which shuts down every hour by itself; \
                 next: install a fresh one, or `slmgr /rearm`"
            );
        }
        Ok(Some(registry))
    };
    tokio::task::spawn_blocking(read).await?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use softoff_guest_protocol::probe::{ProbeEvent, ProbeLine, VERSION};

    use super::*;
    use crate::outcome::Phase;
    use crate::settle;

    #[test]
    fn a_line_that_was_read_after_the_end_counts_and_our_own_doing_does_not() {
        let at = |at_us, source, what| Observation { at_us, source, what };
        let says = |event| {
            Seen::Probe(ProbeLine {
                softoff: VERSION,
                src: "session".into(),
                pid: 1,
                seq: 1,
                up_ms: 0,
                event,
            })
        };
        let shutdown = |guest, reason| Seen::QmpEvent {
            name: "SHUTDOWN".into(),
            data: json!({ "guest": guest, "reason": reason }),
        };
        let asked = Seen::Requested { by: settle::PRESS.into(), number: 1 };
        let before = vec![
            at(10, Source::Host, asked),
            at(20, Source::Probe, says(ProbeEvent::SessionEnding { by: "button".into() })),
            at(50, Source::Qmp, shutdown(true, "guest-shutdown")),
            at(55, Source::Probe, says(ProbeEvent::SessionEnded)),
            at(58, Source::Qmp, shutdown(false, "host-signal")),
            at(60, Source::Host, Seen::Settled { outcome: "powered-off".into() }),
        ];
        let mut all = before.clone();
        all.push(at(70, Source::Probe, says(ProbeEvent::ServicesStopped)));
        all.push(at(80, Source::Qmp, shutdown(false, "host-qmp-quit")));
        all.push(at(90, Source::Process, Seen::ProcessExited { code: Some(0), signal: None }));
        let told = with_late_lines(&before, &all);
        assert_eq!(told.len(), before.len() + 1);
        let phases: Vec<_> = settle::phases(&told).into_iter().map(|r| (r.phase, r.after)).collect();
        let micros = Duration::from_micros;
        assert_eq!(
            phases,
            [
                (Phase::Request, micros(0)),
                (Phase::Reacted, micros(10)),
                (Phase::SessionEnded, micros(40)),
                (Phase::ServicesStopped, micros(40)),
                (Phase::PoweredOff, micros(40)),
            ]
        );
        // Nothing came late, or nothing ended: nothing is different.
        let in_time: Vec<_> = before.iter().filter(|o| o.at_us != 55).cloned().collect();
        assert_eq!(with_late_lines(&in_time, &in_time), in_time);
        let runs: Vec<_> = before.iter().take(2).cloned().collect();
        assert_eq!(with_late_lines(&runs, &all), runs);
    }
}
