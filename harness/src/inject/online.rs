//! The same things done in a running guest, through its agent, by what every Windows brings: `reg`, `powercfg`, `sc`,
//! `schtasks`.
//!
//! guest-exec takes words, and the agent itself quotes them for CreateProcess; only a word that is itself a command
//! line (a service's, a task's) is quoted here.

use super::{HiveEdit, InjectError};
use crate::disk::{Hive, RegistryValue};
use crate::guest::driver::{GuestDriver, LiveValue};
use crate::guest::quoting::{Shell, Unquotable, quote};
use crate::inject::merge::{bad_edit, check_names};
use crate::machine::agent::{AgentError, ExecResult};
use crate::text::printable;

/// A program of the system folder, without `.exe`, and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltIn {
    /// The program.
    pub program: &'static str,
    /// Its arguments.
    pub args: Vec<String>,
}

/// Why something was not done in a guest.
#[derive(Debug, thiserror::Error)]
pub enum OnlineError {
    /// The agent gave no answer.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// It cannot be written down.
    #[error(transparent)]
    Edit(#[from] InjectError),
    /// A word cannot be quoted.
    #[error(transparent)]
    Quoting(#[from] Unquotable),
    /// The program says no.
    #[error("`{line}` in the guest ended with {code:?}: {said}; next: run it there as an administrator")]
    Refused {
        /// What was run.
        line: String,
        /// Its exit code.
        code: Option<i64>,
        /// What it said, escaped.
        said: String,
    },
    /// The program says yes, and the registry says otherwise.
    #[error("`{line}` in the guest said that it was done, and the value is {found:?}, not {wanted:?}")]
    NotThere {
        /// What was run.
        line: String,
        /// What the value is.
        found: Option<LiveValue>,
        /// What it should be.
        wanted: LiveValue,
    },
}

fn built_in(program: &'static str, args: &[&str]) -> BuiltIn {
    BuiltIn { program, args: args.iter().map(|word| (*word).to_owned()).collect() }
}

impl BuiltIn {
    /// The line as it stands in such a place.
    pub fn line(&self, shell: Shell) -> Result<String, Unquotable> {
        let words = [format!("{}.exe", self.program)].into_iter().chain(self.args.iter().cloned());
        let words: Result<Vec<String>, Unquotable> = words.map(|word| quote(shell, &word)).collect();
        Ok(words?.join(" "))
    }

    fn shown(&self) -> String {
        self.line(Shell::Program).unwrap_or_else(|_| format!("{} ...", self.program))
    }

    /// Runs it in a guest; an exit code other than 0 is an error.
    pub async fn run(&self, guest: &GuestDriver) -> Result<ExecResult, OnlineError> {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let result = guest.run(self.program, &args).await?;
        if result.code == Some(0) {
            return Ok(result);
        }
        let said = printable(format!("{} {}", result.stdout.trim(), result.stderr.trim()).trim(), 300);
        Err(OnlineError::Refused { line: self.shown(), code: result.code, said })
    }
}

/// The key as `reg` names it; `user` is the SID of the user whose hive HKCU stands for, where the one who runs `reg` is
/// another (the agent runs as the system).
fn live_key(edit: &HiveEdit, user: Option<&str>) -> String {
    let root = match (&edit.hive, user) {
        (Hive::System, _) => r"HKLM\SYSTEM".to_owned(),
        (Hive::Software, _) => r"HKLM\SOFTWARE".to_owned(),
        (Hive::Default | Hive::DefaultUser, _) => r"HKU\.DEFAULT".to_owned(),
        (Hive::User(_), Some(sid)) => format!(r"HKU\{sid}"),
        (Hive::User(_), None) => "HKCU".to_owned(),
    };
    format!(r"{root}\{}", edit.key)
}

/// `reg add` for one value.
pub fn reg_add(edit: &HiveEdit, user: Option<&str>) -> Result<BuiltIn, InjectError> {
    check_names(edit)?;
    let (kind, data) = match &edit.value {
        RegistryValue::Dword(number) => ("REG_DWORD", number.to_string()),
        RegistryValue::Qword(number) => ("REG_QWORD", number.to_string()),
        RegistryValue::String(text) => ("REG_SZ", text.clone()),
        RegistryValue::ExpandString(text) => ("REG_EXPAND_SZ", text.clone()),
        RegistryValue::Binary(data) => {
            ("REG_BINARY", data.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        // `reg` separates by \0, two characters; a text with them in it would be two.
        RegistryValue::MultiString(texts) if texts.iter().all(|text| !text.contains(r"\0")) => {
            ("REG_MULTI_SZ", texts.join(r"\0"))
        }
        RegistryValue::MultiString(_) | RegistryValue::Other { .. } => {
            return Err(bad_edit(edit, "`reg add` cannot write such data"));
        }
    };
    let key = live_key(edit, user);
    let name: &[&str] = if edit.name.is_empty() { &["/ve"] } else { &["/v", &edit.name] };
    let rest = ["/t", kind, "/d", &data, "/f"];
    Ok(built_in("reg", &[&["add", &key], name, rest.as_slice()].concat()))
}

/// A power setting of the active scheme, and the order to heed it at once.
pub fn power_setting(group: &str, setting: &str, value: u32) -> Vec<BuiltIn> {
    let value = value.to_string();
    let set = |verb| built_in("powercfg", &[verb, "SCHEME_CURRENT", group, setting, &value]);
    vec![
        set("/setacvalueindex"),
        set("/setdcvalueindex"),
        built_in("powercfg", &["/setactive", "SCHEME_CURRENT"]),
    ]
}

/// A service of its own process that starts with the system, with a PRESHUTDOWN time-out, and its start now. `sc` wants a
/// blank behind each `=`: option and value are two words.
pub fn service(name: &str, command: &[&str], preshutdown_ms: u32) -> Result<Vec<BuiltIn>, Unquotable> {
    let words: Result<Vec<String>, Unquotable> =
        command.iter().map(|word| quote(Shell::Program, word)).collect();
    let (key, limit) =
        (format!(r"HKLM\SYSTEM\CurrentControlSet\Services\{name}"), preshutdown_ms.to_string());
    Ok(vec![
        built_in("sc", &["create", name, "type=", "own", "start=", "auto", "binPath=", &words?.join(" ")]),
        built_in("reg", &["add", &key, "/v", "PreshutdownTimeout", "/t", "REG_DWORD", "/d", &limit, "/f"]),
        built_in("sc", &["start", name]),
    ])
}

/// A task that runs a program on a user's desktop, where windows can be seen, at each logon and now: what the agent
/// itself starts has no desktop (session 0).
pub fn desktop_task(name: &str, command: &[&str], user: &str) -> Result<Vec<BuiltIn>, Unquotable> {
    let words: Result<Vec<String>, Unquotable> =
        command.iter().map(|word| quote(Shell::Program, word)).collect();
    let line = words?.join(" ");
    let create = ["/create", "/tn", name, "/tr", &line, "/sc", "onlogon", "/ru", user, "/it", "/f"];
    Ok(vec![built_in("schtasks", &create), built_in("schtasks", &["/run", "/tn", name])])
}

/// Sets values in a running guest and reads each back.
pub async fn apply(guest: &GuestDriver, edits: &[HiveEdit], user: Option<&str>) -> Result<(), OnlineError> {
    for edit in edits {
        let step = reg_add(edit, user)?;
        step.run(guest).await?;
        let wanted = match &edit.value {
            RegistryValue::Dword(number) => LiveValue::Dword(*number),
            RegistryValue::String(text) | RegistryValue::ExpandString(text) => LiveValue::Text(text.clone()),
            // `reg` prints these in ways of its own.
            _ => continue,
        };
        let found = guest.registry(&live_key(edit, user), &edit.name).await?;
        let same = match (&found, &wanted) {
            (Some(found), LiveValue::Text(text)) => found.is_text(text),
            (found, wanted) => found.as_ref() == Some(wanted),
        };
        if !same {
            return Err(OnlineError::NotThere { line: step.shown(), found, wanted });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(steps: Vec<BuiltIn>) -> Vec<String> {
        steps.iter().map(|step| step.line(Shell::Program).unwrap()).collect()
    }

    #[test]
    fn lines_as_a_person_would_type_them() {
        let edit = |hive, key: &str, name: &str, value| HiveEdit::new(hive, key, name, value);
        let edits = [
            edit(Hive::Software, r"Policies\x y", "On", RegistryValue::Dword(1)),
            edit(
                Hive::user("Ada"),
                r"Control Panel\Desktop",
                "AutoEndTasks",
                RegistryValue::String("1".into()),
            ),
            edit(
                Hive::System,
                r"CurrentControlSet\Control",
                "",
                RegistryValue::MultiString(vec!["a".into(), "b".into()]),
            ),
            edit(Hive::Default, "K", "bytes", RegistryValue::Binary(vec![1, 255])),
        ];
        let mut all: Vec<BuiltIn> =
            edits.iter().map(|edit| reg_add(edit, Some("S-1-5-21-1")).unwrap()).collect();
        all.extend(power_setting("SUB_BUTTONS", "PBUTTONACTION", 0));
        let probe = r"C:\soft off\probe.exe";
        all.extend(service("Backup", &[probe, "service", "Backup", "--preshutdown"], 600_000).unwrap());
        all.extend(desktop_task("softoff", &[probe, "refuses", "--text", "say \"no\""], "Ada").unwrap());
        insta::assert_snapshot!(lines(all).join("\n"));
    }

    #[test]
    fn what_reg_cannot_write_is_refused() {
        let edit = |value| HiveEdit::new(Hive::Software, "K", "n", value);
        let odd = RegistryValue::MultiString(vec![r"a\0b".into()]);
        assert!(matches!(reg_add(&edit(odd), None), Err(InjectError::BadEdit { .. })));
        let other = RegistryValue::Other { kind: 8, data: vec![1] };
        assert!(matches!(reg_add(&edit(other), None), Err(InjectError::BadEdit { .. })));
        let mut broken = edit(RegistryValue::Dword(1));
        broken.name = "a\nb".into();
        assert!(matches!(reg_add(&broken, None), Err(InjectError::BadEdit { .. })));
    }
}
