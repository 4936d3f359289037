//! From what was found out to the record: phases, tie, verdict, and the comparison with what was approved.

use std::time::Duration;

use softoff_guest_protocol::probe::ProbeEvent;

use super::next_boot::FOLDER as NEXT_BOOT;
use super::{Job, JobName, Story};
use crate::condition::Condition;
use crate::diagnose::diagnose;
use crate::evidence::Evidence;
use crate::image::{Boot, Sha256Hex};
use crate::machine::firmware;
use crate::outcome::{Outcome, OutcomeKind, Verdict};
use crate::record::normal;
use crate::record::schema::{
    Attachment, Basis, Damage, Delivery, ImageRef, PhaseSource, PhaseTimes, ProofRecord, RequestRef,
    ScenarioRecord, StartMode,
};
use crate::request_matrix;
use crate::scenario::PolicyRef;
use crate::settle::{self, Reached, Tie};
use crate::text::printable;
use crate::timeline::{Observation, Seen};
use crate::verdict::{Findings, judge};

/// Everything that was found out, judged, as the record holds it.
pub(super) fn make_record(
    job: &Job,
    name: &JobName,
    story: &Story,
    outcome: Outcome,
    observations: &[Observation],
    damage: Damage,
    wall: Duration,
) -> ScenarioRecord {
    let manifest = &job.image.manifest;
    let reached: Vec<Reached> = settle::phases(observations);
    let unknown = || diagnose(&Evidence::from_timeline(observations, outcome.kind()));
    let diagnosis = story.diagnosis.clone().unwrap_or_else(unknown);
    let unproven: Vec<String> = story
        .proofs
        .iter()
        .filter(|(_, proof)| !proof.present)
        .map(|(id, proof)| format!("{id}: {}", proof.evidence))
        .collect();
    let tie = match job.scenario.request.by {
        // The host's own deed needs no tie.
        by if by.is_hard() && outcome.kind() == OutcomeKind::HostKilled => Tie::Tied("the plug".into()),
        by => settle::tie(observations, by),
    };
    let ends_agent = job.scenario.conditions.iter().any(Condition::ends_agent);
    let troubles: Vec<String> = troubles(observations, ends_agent);
    let damaged = observations.iter().filter(|o| matches!(o.what, Seen::ProbeDamaged { .. })).count();
    let probe_lines_damaged = u32::try_from(damaged).unwrap_or(u32::MAX);
    let judgement = judge(
        (!job.scenario.unexpected).then_some(&job.scenario.expect),
        &Findings {
            family: manifest.family,
            not_asked: story.not_asked.as_deref().filter(|_| unproven.is_empty()),
            outcome: &outcome,
            phases: &reached,
            unproven: &unproven,
            troubles: &troubles,
            tie: &tie,
            diagnosis: &diagnosis,
            volume_dirty: damage.volume_dirty,
            overlay_trouble: story.overlay_trouble.as_deref(),
            press_lost: press_lost(observations),
            probe_lines_damaged,
            scale: job.deadline_scale,
        },
    );
    let request = &job.scenario.request;
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let dir = name.dir();
    let cut_short = observations.iter().any(|o| matches!(o.what, Seen::CutShort { .. }));
    let mut record = ScenarioRecord {
        scenario: name.scenario.clone(),
        image: ImageRef { name: manifest.name.clone(), id: job.image.id.clone(), family: manifest.family },
        repeat: job.repeat,
        retry_of: job.retry_of,
        basis: Some(basis(job)),
        request: RequestRef {
            by: request.by,
            presses: request.presses,
            gap_ms: millis(request.gap.0),
            deadline_ms: millis(job.deadline()),
            deadline_from_history: job.deadline.is_some(),
            policy: job.scenario.policy.clone().map(|policy| PolicyRef { cut_short, ..policy }),
        },
        backend: job.backend.kind(),
        requests: settle::made(observations),
        took_effect: settle::took_effect(observations, outcome.kind()),
        accel: job.accelerator,
        verdict: judgement.verdict,
        reasons: judgement.reasons,
        last_phase: reached.last().map(|r| r.phase),
        phases: PhaseTimes::from_reached(&reached),
        phase_sources: reached
            .iter()
            .map(|r| PhaseSource {
                phase: r.phase,
                source: r.source,
                error_ms: millis(r.source.error_bound()),
            })
            .collect(),
        condition_proven: (!job.scenario.conditions.is_empty())
            .then(|| story.proofs.len() == job.scenario.conditions.len() && unproven.is_empty()),
        proofs: story
            .proofs
            .iter()
            .map(|(id, p)| ProofRecord {
                condition: id.clone(),
                present: p.present,
                evidence: p.evidence.clone(),
            })
            .collect(),
        delivery: delivery(observations),
        outcome,
        settled_by: story.settled_by,
        diagnosis,
        expected_cause: (!job.scenario.unexpected).then_some(job.scenario.expect.cause),
        damage,
        plug_pulled_ms: settle::plug_pulled(observations).map(millis),
        next_boot: story.next_boot.clone(),
        boot_ms: story.start.as_ref().filter(|s| s.mode == StartMode::Cold).and_then(|s| s.ready_ms),
        start: story.start.clone(),
        boots: story.boots,
        probe_lines_damaged,
        host_pressure: story.pressure.clone(),
        machine_memory_mib: story.memory_mib,
        wall_ms: millis(wall),
        deadline_scale: job.deadline_scale,
        attachments: attachments(observations, &dir, story.next_boot.is_some()),
        dir,
    };
    compare_with_approved(job, &mut record);
    job.known_issues.apply(&mut record);
    record
}

/// What the result rests on. SeaBIOS is QEMU's own, so that QEMU's version tells it; OVMF is a package of its own.
fn basis(job: &Job) -> Basis {
    let manifest = &job.image.manifest;
    let facts = &manifest.machine;
    let firmware = match &manifest.boot {
        Boot::Kernel { .. } | Boot::Bios => "SeaBIOS, QEMU's own".to_owned(),
        Boot::Uefi => {
            let hash = firmware::installed(manifest.machine.secure_boot)
                .and_then(|(code, _)| Sha256Hex::of_file(&code).ok());
            hash.map_or("OVMF".to_owned(), |hash| format!("OVMF {}", hash.short()))
        }
    };
    Basis {
        definition: job.scenario.digest.clone(),
        machine: format!("{} x{} {} MiB vga {}", facts.machine, facts.smp, facts.memory_mib, facts.vga),
        firmware,
    }
}

/// What the guest's own programs report as gone wrong since the guest was ready: such a run says nothing
/// about the condition. That qemu-ga ended is none where the condition is that it does.
fn troubles(observations: &[Observation], ends_agent: bool) -> Vec<String> {
    let ready = observations.iter().rposition(|o| matches!(o.what, Seen::Ready)).unwrap_or(0);
    let trouble = |o: &Observation| match &o.what {
        Seen::Probe(line) => match &line.event {
            ProbeEvent::RequestDiscarded { reason } if reason == "no-session" => {
                Some("init: the session program has gone".to_owned())
            }
            ProbeEvent::Trouble { what } if ends_agent && what.starts_with("qemu-ga ended") => None,
            ProbeEvent::Trouble { what } => {
                Some(format!("{}: {}", printable(&line.src, 40), printable(what, 200)))
            }
            _ => None,
        },
        _ => None,
    };
    observations.iter().skip(ready).filter_map(trouble).collect()
}

/// A passing record must also look as the approved one; where probe lines were lost, what differs may have been lost
/// with them.
fn compare_with_approved(job: &Job, record: &mut ScenarioRecord) {
    let Some(approved) = &job.approved else { return };
    // Under a press policy the matrix' line is what was approved.
    let found = match record.request.policy {
        Some(_) => request_matrix::normalised(std::slice::from_ref(record)),
        None => normal::normalised(record),
    };
    if record.verdict != Verdict::Pass || found.trim() == approved.trim() {
        return;
    }
    record.verdict = if record.probe_lines_damaged > 0 { Verdict::Inconclusive } else { Verdict::Fail };
    for (is, was) in found.trim().lines().zip(approved.trim().lines()).filter(|(a, b)| a != b) {
        record.reasons.push(format!("differs from the approved snapshot: `{is}`, approved `{was}`"));
    }
    record.reasons.push("`cargo insta review` after `cargo xtask test` approves a wanted change".into());
}

/// Whether presses were made that the guest should have heard, and none was seen to be taken. One that it was deaf to is
/// not lost, but in vain; a register that cannot be read shows nothing.
fn press_lost(observations: &[Observation]) -> bool {
    let mut deaf = false;
    let mut heard = false;
    for observation in observations {
        match &observation.what {
            Seen::ButtonRegisters { enabled, .. } => deaf = !enabled,
            Seen::Requested { by, .. } if by == settle::PRESS => heard |= !deaf,
            Seen::PressTaken => return false,
            _ => {}
        }
    }
    heard
}

fn delivery(observations: &[Observation]) -> Delivery {
    let listening = observations.iter().find_map(|o| match o.what {
        Seen::ButtonRegisters { enabled, .. } => Some(enabled),
        _ => None,
    });
    let taken = observations.iter().any(|o| matches!(o.what, Seen::PressTaken));
    Delivery { listening, taken: listening.map(|_| taken).or(none_was_sent(observations).then_some(false)) }
}

/// Whether libvirt refused every press and sent QEMU nothing: then none was taken, although no register could be read.
fn none_was_sent(observations: &[Observation]) -> bool {
    let mut presses = observations.iter().filter_map(|o| match &o.what {
        Seen::Requested { by, number } if by == settle::PRESS => Some(*number),
        _ => None,
    });
    let refused = |press: u32| {
        observations.iter().any(|o| {
            matches!(&o.what, Seen::Answered { number, sent, refused: Some(_), .. } if *number == press && sent.is_empty())
        })
    };
    let first = presses.next();
    first.is_some_and(refused) && presses.all(refused)
}

fn attachments(observations: &[Observation], dir: &str, booted_again: bool) -> Vec<Attachment> {
    let file = |kind: &str, name: &str| Attachment { kind: kind.into(), path: format!("{dir}/{name}") };
    let mut list =
        vec![file("timeline", "timeline.jsonl"), file("console", "serial.log"), file("qemu-log", "qemu.log")];
    list.extend(observations.iter().filter_map(|o| match &o.what {
        Seen::ScreenChanged { file: name, .. } => Some(file("screen", name)),
        _ => None,
    }));
    if booted_again {
        let names = [("timeline", "timeline.jsonl"), ("console", "serial.log"), ("qemu-log", "qemu.log")];
        list.extend(
            names.map(|(kind, name)| file(&format!("next-boot-{kind}"), &format!("{NEXT_BOOT}/{name}"))),
        );
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Source;

    #[test]
    fn a_press_that_libvirt_refused_was_not_taken_and_one_that_it_sent_is_unknown() {
        let asked = |number| Seen::Requested { by: settle::PRESS.into(), number };
        let answered = |number, sent: &[&str], refused: Option<&str>| Seen::Answered {
            number,
            took_ms: 1,
            sent: sent.iter().map(|s| (*s).to_owned()).collect(),
            refused: refused.map(str::to_owned),
        };
        let taken = |seen: &[Seen]| {
            let at = |what: &Seen| Observation { at_us: 0, source: Source::Libvirt, what: what.clone() };
            delivery(&seen.iter().map(at).collect::<Vec<_>>()).taken
        };
        let refused = answered(1, &[], Some("failed to get domain"));
        assert_eq!(taken(&[asked(1), refused.clone()]), Some(false));
        assert_eq!(taken(&[asked(1)]), None);
        assert_eq!(taken(std::slice::from_ref(&refused)), None);
        assert_eq!(taken(&[asked(1), answered(1, &[settle::PRESS], Some("timeout"))]), None);
        assert_eq!(taken(&[asked(1), answered(1, &[settle::PRESS], None)]), None);
        assert_eq!(taken(&[asked(1), refused, asked(2), answered(2, &[settle::PRESS], None)]), None);
    }

    /// Silence after a press that nobody could have heard tells of the moment; after one that somebody should have
    /// heard, of nothing.
    #[test]
    fn a_press_is_lost_unless_the_guest_took_it_or_was_deaf_to_it() {
        let asked = Seen::Requested { by: settle::PRESS.into(), number: 1 };
        let listening = |enabled| Seen::ButtonRegisters { enabled, pending: false };
        let lost = |seen: &[Seen]| {
            let at = |what: &Seen| Observation { at_us: 0, source: Source::Qmp, what: what.clone() };
            press_lost(&seen.iter().map(at).collect::<Vec<_>>())
        };
        assert!(lost(&[listening(true), asked.clone()]));
        assert!(lost(std::slice::from_ref(&asked)), "no register was read");
        assert!(!lost(&[listening(false), asked.clone()]), "nobody listened");
        assert!(!lost(&[listening(true), asked.clone(), Seen::PressTaken]));
        assert!(!lost(&[listening(true)]), "nobody pressed");
        let late = [listening(false), asked.clone(), listening(true), asked.clone()];
        assert!(lost(&late), "the second press should have been heard");
        assert!(!lost(&[&late[..], &[Seen::PressTaken]].concat()));
    }
}
