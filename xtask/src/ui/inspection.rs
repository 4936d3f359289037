//! What an image tells, as a table for people.

use softoff_harness::disk::event_log::EventLogReport;
use softoff_harness::disk::{HibernationFile, HiveCondition, JournalState, VolumeFlags};
use softoff_harness::guest::registry_facts::RegistryFacts;
use softoff_harness::inspect::{
    DiskReport, DocumentsReport, Evaluation, FileSystem, ImageReport, PendingUpdates, Survival,
};

use super::table;

/// Events of a log that are shown; all are in the JSON.
const EVENTS: usize = 8;

/// The report as text.
pub(crate) fn render(report: &ImageReport) -> String {
    let mut rows = Vec::new();
    let mut row = |what: &str, says: String| rows.push(vec![what.to_owned(), says]);
    for (n, layer) in report.layers.iter().enumerate() {
        row(if n == 0 { "image" } else { "on" }, layer.display().to_string());
    }
    row("size", format!("{} MiB", report.size >> 20));
    for partition in &report.partitions {
        let name = partition.name.as_deref().unwrap_or("-");
        let holds = match &partition.file_system {
            FileSystem::Ntfs => "NTFS".to_owned(),
            FileSystem::BitLocker => "encrypted by BitLocker: cannot be read from outside".to_owned(),
            FileSystem::Fat(marks) => format!(
                "{:?}, {}{}",
                marks.kind,
                if marks.is_dirty() { "marked dirty: it was mounted when its writer went" } else { "clean" },
                if marks.disk_errors { ", disk errors were met" } else { "" }
            ),
            FileSystem::Other => "no file system of Windows".to_owned(),
        };
        row("partition", format!("{} {name}, {} MiB: {holds}", partition.number, partition.length >> 20));
    }
    if let Some(system) = &report.system {
        rows.extend(volume(system));
    }
    if let Some(facts) = &report.registry {
        rows.extend(settings(facts));
    }
    if let Some(evaluation) = &report.evaluation {
        rows.extend(expiry(evaluation));
    }
    if let Some(why) = &report.no_system {
        rows.push(vec!["system volume".into(), why.clone()]);
    }
    table(&["what", "says"], rows).to_string()
}

fn volume(system: &DiskReport) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = |what: &str, says: String| rows.push(vec![what.to_owned(), says]);
    if let Some(word) = system.volume_flags {
        row("volume flags", VolumeFlags(word).to_string());
    }
    match &system.journal {
        Some(JournalState::Clean) => row("$LogFile", "clean".into()),
        Some(JournalState::NotClean) => row("$LogFile", "not clean: the volume was not dismounted".into()),
        Some(JournalState::Empty) => {
            row("$LogFile", "empty: Windows has not written to it since it was emptied".into())
        }
        Some(JournalState::ByChkdsk) => row("$LogFile", "chkdsk has worked on the volume since".into()),
        Some(JournalState::Damaged { why }) => row("$LogFile", format!("damaged: {why}")),
        None => {}
    }
    for hive in &system.hives {
        let numbers = hive
            .state
            .map_or(String::new(), |s| format!(" (sequence numbers {} and {})", s.sequence_1, s.sequence_2));
        let condition = match &hive.condition {
            HiveCondition::Clean => "clean".to_owned(),
            HiveCondition::DirtyWithLogs { entries } => {
                format!("dirty; its logs hold the rest in {entries} entries")
            }
            HiveCondition::DirtyWithoutUsableLogs { why } => format!("dirty, and no log helps: {why}"),
            HiveCondition::Corrupt { why } => format!("corrupt: {why}"),
        };
        row("hive", format!("{}: {condition}{numbers}", hive.hive));
    }
    if let Some(time) = &system.shutdown_time {
        row("last clean shutdown", time.clone());
    }
    match system.hibernation {
        Some(HibernationFile::Absent) => row("hiberfil.sys", "absent".into()),
        Some(HibernationFile::Empty) => row("hiberfil.sys", "nothing is saved in it".into()),
        Some(HibernationFile::Spent) => row("hiberfil.sys", "resumed from, spent".into()),
        Some(HibernationFile::Live) => row("hiberfil.sys", "a system is asleep in it".into()),
        Some(HibernationFile::Unknown(magic)) => {
            row("hiberfil.sys", format!("begins with `{}`, which is not known", magic.escape_ascii()));
        }
        None => {}
    }
    if let Some(updates) = &system.updates {
        row("updates", pending(updates));
    }
    if let Some(documents) = &system.documents {
        row("documents", survivors(documents));
    }
    for dump in &system.dumps {
        row("crash dump", format!("{}, {} KiB", dump.path, dump.size.div_ceil(1024)));
    }
    for (name, log) in [("System log", &system.system_log), ("Application log", &system.application_log)] {
        if let Some(log) = log {
            rows.extend(events(name, log));
        }
    }
    rows.extend(system.troubles.iter().map(|trouble| vec!["not readable".to_owned(), trouble.clone()]));
    rows
}

fn pending(updates: &PendingUpdates) -> String {
    let signs = [
        (updates.reboot_pending, "RebootPending"),
        (updates.reboot_in_progress, "RebootInProgress"),
        (updates.packages_pending, "PackagesPending"),
        (updates.reboot_required, "RebootRequired"),
        (updates.setup_execute, "SetupExecute"),
        (updates.pending_xml, "pending.xml"),
    ];
    let mut found: Vec<String> =
        signs.iter().filter(|(there, _)| *there).map(|(_, name)| (*name).to_owned()).collect();
    if updates.rename_operations > 0 {
        found.push(format!("{} files to rename", updates.rename_operations));
    }
    if let Some(model) = &updates.modelled {
        let half = if model.is_interrupted() { ", stopped half-way" } else { "" };
        found.push(format!(
            "modelled update {} ({} steps staged, {} committed{half})",
            model.state, model.staged, model.committed
        ));
    }
    if found.is_empty() { "none pending".to_owned() } else { found.join(", ") }
}

fn survivors(documents: &DocumentsReport) -> String {
    let kind = |name: &str, survival: &Survival| {
        format!(
            "{name} {} whole, {} torn, {} missing",
            survival.intact.len(),
            survival.torn.len(),
            survival.missing.len()
        )
    };
    format!("{}; {}", kind("flushed", &documents.flushed), kind("unflushed", &documents.unflushed))
}

fn events(name: &str, log: &EventLogReport) -> Vec<Vec<String>> {
    let unread = if log.looked_at < log.records {
        format!(", the newest {} looked at", log.looked_at)
    } else {
        String::new()
    };
    let damaged = if log.damaged > 0 { format!(", {} damaged", log.damaged) } else { String::new() };
    let open = if log.left_open { ", not closed: its writer was cut off" } else { "" };
    let mut rows = vec![vec![name.to_owned(), format!("{} records{unread}{damaged}{open}", log.records)]];
    for event in log.events.iter().rev().take(EVENTS).rev() {
        let known = event.known();
        let meaning = known.map_or("", |known| known.meaning);
        let caveat = known.map(|known| known.caveat).filter(|caveat| !caveat.is_empty());
        let caveat = caveat.map_or(String::new(), |caveat| format!(" ({caveat})"));
        let line = format!("{} {} {}: {meaning}{caveat}", event.time, event.provider, event.id);
        rows.push(vec!["  event".to_owned(), line]);
    }
    rows
}

fn settings(facts: &RegistryFacts) -> Vec<Vec<String>> {
    let number = |value: Option<u32>| value.map_or("not set".to_owned(), |n| n.to_string());
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
    let button = facts.button_action.map_or("set in no layer".to_owned(), |action| {
        format!("{} ({:?} layer)", action.index, action.layer)
    });
    let mut rows = vec![
        ("PBUTTONACTION", button),
        ("forced button", number(facts.forced_button)),
        ("ShutdownWithoutLogon", number(facts.shutdown_without_logon)),
        ("AutoAdminLogon", text(&facts.auto_admin_logon)),
        (
            "ShutdownReasonOn, UI",
            format!("{}, {}", number(facts.shutdown_reason_on), number(facts.shutdown_reason_ui)),
        ),
        ("AutoEndTasks", facts.auto_end_tasks.map_or("not set".into(), |on| u8::from(on).to_string())),
        ("HungAppTimeout", text(&facts.hung_app_timeout)),
        ("WaitToKillAppTimeout", text(&facts.app_timeout)),
        ("WaitToKillServiceTimeout", text(&facts.service_timeout)),
        (
            "VIDEOIDLE, VIDEOCONLOCK",
            format!("{}, {}", number(facts.video_idle), number(facts.video_lock_idle)),
        ),
        (
            "hibernation, fast startup",
            format!("{}, {}", number(facts.hibernate_enabled), number(facts.fast_startup)),
        ),
    ];
    let mut slow: Vec<_> = facts.preshutdown.iter().collect();
    slow.sort_by_key(|service| std::cmp::Reverse(service.timeout_ms));
    for service in slow.iter().take(EVENTS) {
        let name = softoff_harness::text::printable(&service.name, 60);
        rows.push(("PreshutdownTimeout", format!("{name}: {} ms", service.timeout_ms)));
    }
    // Texts of the registry are the guest's.
    let escaped = |text: String| softoff_harness::text::printable(&text, 200);
    rows.into_iter().map(|(what, says)| vec![what.to_owned(), escaped(says)]).collect()
}

fn expiry(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let says = match evaluation {
        Evaluation::No => return Vec::new(),
        Evaluation::Running { days } => format!("evaluation, {days} days old"),
        Evaluation::PerhapsExpired { days } => {
            format!("evaluation, {days} days old: expired unless it was rearmed")
        }
        Evaluation::Expired { why } => {
            format!("evaluation, EXPIRED ({why}): it shuts down every hour by itself")
        }
    };
    vec![vec!["edition".to_owned(), says]]
}
