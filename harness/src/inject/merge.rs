//! Editing a hive's bytes with `hivexregedit`, on a copy.

use std::fmt::Write as _;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::HiveEdit;
use super::error::InjectError;
use crate::disk::RegistryValue;
use crate::disk::registry::KeyPlan;

/// A merge takes 0.1 s.
const LIMIT: Duration = Duration::from_secs(60);
/// Stands for the hive's root in the .reg text.
const PREFIX: &str = r"HKEY_SOFTOFF\HIVE";
/// The package that hivexregedit comes in.
const PACKAGE: &str = "libwin-hivex-perl";

/// The `.reg` text that sets these values.
///
/// Keys that do not exist are named one by one from the top, for hivexregedit creates only the last part
/// of a key. Keys that do exist are named only where a value changes: naming one rewrites all its values.
/// Data is always written as hexadecimal bytes, so that no encoding stands between us and the hive.
pub(super) fn reg_text(edits: &[(&HiveEdit, KeyPlan)]) -> Result<String, InjectError> {
    let mut text = String::from("Windows Registry Editor Version 5.00\n\n");
    let mut created: Vec<&str> = Vec::new();
    for (edit, plan) in edits {
        check(edit, plan)?;
        for key in &plan.missing {
            if !created.contains(&key.as_str()) {
                created.push(key);
                line(&mut text, format_args!("[{PREFIX}\\{key}]\n"));
            }
        }
        line(&mut text, format_args!("[{PREFIX}\\{}]", plan.key));
        line(&mut text, format_args!("{}\n", value_line(&edit.name, &edit.value)));
    }
    Ok(text)
}

/// One value as a line of a `.reg` file, its data as hexadecimal bytes.
pub(super) fn value_line(name: &str, value: &RegistryValue) -> String {
    let name = match name {
        "" => "@".to_owned(),
        name => format!("\"{}\"", name.replace('\\', r"\\").replace('"', "\\\"")),
    };
    let bytes: Vec<String> = value.data().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}=hex({:x}):{}", value.kind(), bytes.join(","))
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    let _a_string_takes_everything = writeln!(text, "{content}");
}

/// A line break would end the line of the .reg text, and begin one of the attacker's choice. Limits are
/// those of the registry: 255 characters for a key's name, 16 383 for a value's.
pub(super) fn check_names(edit: &HiveEdit) -> Result<(), InjectError> {
    let bad = |why: &str| Err(bad_edit(edit, why));
    if edit.key.split('\\').any(|part| part.is_empty() || part.encode_utf16().count() > 255) {
        return bad("a part of the key is empty or longer than 255 characters");
    }
    if edit.name.encode_utf16().count() > 16_383 {
        return bad("the value's name is longer than 16383 characters");
    }
    if edit.key.chars().chain(edit.name.chars()).any(char::is_control) {
        return bad("a control character in a name");
    }
    Ok(())
}

pub(super) fn bad_edit(edit: &HiveEdit, why: &str) -> InjectError {
    InjectError::BadEdit { key: edit.key.clone(), name: edit.name.clone(), why: why.to_owned() }
}

fn check(edit: &HiveEdit, plan: &KeyPlan) -> Result<(), InjectError> {
    check_names(edit)?;
    // Windows finds a key by the hash of its name in the parent's list; hivex 1.3 makes another hash than
    // Windows for such names (measured: regf's check rejects the hive).
    if plan.missing.iter().any(|key| !key.is_ascii()) {
        return Err(bad_edit(edit, "hivexregedit cannot create keys with names outside ASCII"));
    }
    Ok(())
}

/// Merges a `.reg` text into a hive; `hive` names the hive in errors.
pub(super) fn merge(hive: &str, bytes: &[u8], reg: &str) -> Result<Vec<u8>, InjectError> {
    let io = |doing: &str| {
        let doing = format!("{doing} a copy of `{hive}`");
        move |source| InjectError::Io { doing, source }
    };
    let mut copy = tempfile::NamedTempFile::new().map_err(io("making"))?;
    copy.write_all(bytes).and_then(|()| copy.flush()).map_err(io("writing"))?;
    let mut reg_file = tempfile::NamedTempFile::new().map_err(io("preparing the edit of"))?;
    reg_file
        .write_all(reg.as_bytes())
        .and_then(|()| reg_file.flush())
        .map_err(io("preparing the edit of"))?;
    let mut errors = tempfile::tempfile().map_err(io("preparing the edit of"))?;

    let mut command = Command::new("hivexregedit");
    command.args(["--merge", "--prefix", PREFIX]).arg(copy.path()).arg(reg_file.path());
    let stderr = errors.try_clone().map_err(io("preparing the edit of"))?;
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
    let mut child = child.map_err(|e| InjectError::Tool {
        hive: hive.to_owned(),
        why: format!("cannot be started: {e}"),
        next: format!("apt-get install {PACKAGE}"),
    })?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(io("waiting for the edit of"))? {
            break Some(status);
        }
        if started.elapsed() > LIMIT {
            let _it_may_have_ended_by_now = child.kill();
            child.wait().map_err(io("ending the edit of"))?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut said = Vec::new();
    errors.seek(SeekFrom::Start(0)).map_err(io("reading the messages about"))?;
    errors.take(4096).read_to_end(&mut said).map_err(io("reading the messages about"))?;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    match status {
        None => Err(InjectError::Timeout { hive: hive.to_owned(), limit: LIMIT, said }),
        Some(status) if !status.success() => Err(InjectError::Tool {
            hive: hive.to_owned(),
            why: format!("{status}: {said}"),
            next: "look at the hive with `hivexsh -d`".to_owned(),
        }),
        Some(_) => std::fs::read(copy.path()).map_err(io("reading back")),
    }
}
