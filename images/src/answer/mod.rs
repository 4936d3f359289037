//! Answer files for Windows Setup: typed, from the catalogue's facts, written as XML. Those for ReactOS' Setup are in a
//! file of their own.
//!
//! The installation needs no network and no person. What Setup and the installed system are told to run writes a line to
//! COM1 as it passes ([`INSTALL_MARKER`]), which is how the host knows where they are; a missing serial driver costs only that
//! line.

mod component;
mod disk;
mod generalize;
mod reactos;
#[cfg(test)]
mod tests;
mod xml;

use softoff_harness::guest::quoting::{Shell, Unquotable, quote};

pub use component::{Component, Pass, Row, Section, TABLE, WrongPass};
pub use generalize::{Ending, GENERALIZED};
pub use reactos::{REACTOS_ANSWERS, REACTOS_MENU, ReactosAnswers, Unwritable, reactos_menu};
use softoff_harness::machine::INSTALL_MARKER;
use xml::{Node, group, item, value};

use crate::catalog::{Entry, FirmwareKind, Kind};

/// Name of the file that Setup looks for in the root of every removable medium.
pub const ANSWER_FILE: &str = "autounattend.xml";

/// Folder of everything else on the answer medium.
pub const FOLDER: &str = "softoff";

/// Script of the first logon, in that folder.
pub const FIRST_LOGON: &str = "first-logon.cmd";

/// Letters that the answer medium may have: in Windows PE and in the installed system it is not the same, and neither is
/// documented. Paths that do not exist are passed over by Setup (as public answer files rely on).
const LETTERS: [char; 6] = ['D', 'E', 'F', 'G', 'H', 'I'];

/// The line on COM1 that tells of one place.
fn marker(place: &str) -> String {
    format!("{INSTALL_MARKER} {place}")
}

/// The account that is made: administrator of this machine only, logged on by itself. The password protects nothing: the
/// machine has no network, and it stands in the image.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl Default for Account {
    fn default() -> Account {
        Account { name: "Softoff".into(), password: "Softoff-Test-1".into() }
    }
}

/// What an answer file is made from.
#[derive(Debug, Clone)]
pub struct Answers<'a> {
    /// The system.
    pub entry: &'a Entry,
    /// Its firmware.
    pub firmware: FirmwareKind,
    /// Index of the edition in `sources\install.wim`.
    pub edition: u32,
    /// Who logs on.
    pub account: Account,
    /// Lines of the first logon's script that harden it; none for a stock image.
    pub hardening: Vec<String>,
    /// How that script ends.
    pub ending: Ending,
}

/// Why an answer file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// A component is spoken to in a pass that it has no settings in.
    #[error(transparent)]
    Pass(#[from] WrongPass),
    /// The XML cannot be written.
    #[error("the answer file cannot be written as XML: {0}")]
    Xml(#[from] std::io::Error),
    /// ReactOS' file cannot hold a text.
    #[error(transparent)]
    Reactos(#[from] Unwritable),
    /// A command is longer than Setup takes.
    #[error("a command has {length} characters, and Setup takes {limit} at most: {command}")]
    TooLong {
        /// The command.
        command: String,
        /// Its length.
        length: usize,
        /// What Setup takes.
        limit: usize,
    },
}

impl Answers<'_> {
    /// The answer file.
    pub fn document(&self) -> Result<String, AnswerError> {
        let mut sections = vec![
            Section::new(Pass::WindowsPe, Component::InternationalWinPe, language(true))?,
            Section::new(Pass::WindowsPe, Component::PnpWinPe, vec![self.drivers()])?,
            Section::new(Pass::WindowsPe, Component::Setup, self.setup()?)?,
        ];
        sections.extend(self.of_a_start(self.first_logon()?)?);
        if self.entry.kind == Kind::Server {
            let quiet = vec![value("DoNotOpenServerManagerAtLogon", true)];
            sections.push(Section::new(Pass::Specialize, Component::ServerManager, quiet)?);
        }
        Ok(xml::write(&sections)?)
    }

    /// What a system that configures itself asks for, with these answers to the out-of-box experience.
    fn of_a_start(&self, out_of_box: Vec<Node>) -> Result<[Section; 5], AnswerError> {
        let activation = vec![value("SkipAutoActivation", true)];
        Ok([
            Section::new(Pass::Specialize, Component::ShellSetup, self.identity())?,
            Section::new(Pass::Specialize, Component::Deployment, vec![run_synchronous(self.specialize())?])?,
            Section::new(Pass::Specialize, Component::SecuritySppUx, activation)?,
            Section::new(Pass::OobeSystem, Component::International, language(false))?,
            Section::new(Pass::OobeSystem, Component::ShellSetup, out_of_box)?,
        ])
    }

    /// Windows 11 asks for a TPM and Secure Boot.
    fn asks_for_a_tpm(&self) -> bool {
        self.entry.machine.tpm
    }

    fn drivers(&self) -> Node {
        let paths = (1..).zip(LETTERS).map(|(number, letter)| {
            let path = value("Path", format!(r"{letter}:\{FOLDER}\drivers"));
            Node::Item("PathAndCredentials", Some(number), vec![path])
        });
        group("DriverPaths", paths.collect())
    }

    fn setup(&self) -> Result<Vec<Node>, AnswerError> {
        let mut commands = vec![tell("windows-pe")];
        if self.asks_for_a_tpm() && self.firmware == FirmwareKind::Bios {
            for check in ["BypassTPMCheck", "BypassSecureBootCheck"] {
                commands.push(format!(
                    r"reg.exe add HKLM\SYSTEM\Setup\LabConfig /v {check} /t REG_DWORD /d 1 /f"
                ));
            }
        }
        let install = vec![
            group(
                "InstallFrom",
                vec![item("MetaData", vec![value("Key", "/IMAGE/INDEX"), value("Value", self.edition)])],
            ),
            group(
                "InstallTo",
                vec![value("DiskID", 0), value("PartitionID", disk::windows_partition(self.firmware))],
            ),
            value("WillShowUI", "OnError"),
        ];
        // An evaluation has no product key: without a UI for it, Setup does not ask.
        let user = vec![
            value("AcceptEula", true),
            value("FullName", &self.account.name),
            value("Organization", "Softoff"),
            group("ProductKey", vec![value("WillShowUI", "Never")]),
        ];
        Ok(vec![
            disk::configuration(self.firmware),
            group("ImageInstall", vec![group("OSImage", install)]),
            group("UserData", user),
            // Without a network Setup would wait for updates of itself.
            group("DynamicUpdate", vec![value("Enable", false), value("WillShowUI", "Never")]),
            run_synchronous(commands)?,
        ])
    }

    fn identity(&self) -> Vec<Node> {
        vec![value("ComputerName", "SOFTOFF"), value("TimeZone", "UTC")]
    }

    fn specialize(&self) -> Vec<String> {
        let mut commands = vec![tell("specialize")];
        let add = |key: &str, name: &str| format!(r"reg.exe add {key} /v {name} /t REG_DWORD /d 1 /f");
        // An encrypted disk cannot be read from outside.
        commands.push(add(r"HKLM\SYSTEM\CurrentControlSet\Control\BitLocker", "PreventDeviceEncryption"));
        if self.entry.kind == Kind::Client {
            // The out-of-box experience of Windows 11 wants a network; Windows 10 does not know the value.
            commands.push(add(r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\OOBE", "BypassNRO"));
        }
        commands
    }

    /// The out-of-box experience, the account, and so many logons of it.
    fn out_of_box(&self, logons: u32) -> Vec<Node> {
        let server = self.entry.kind == Kind::Server;
        let password =
            || group("Password", vec![value("Value", &self.account.password), value("PlainText", true)]);
        let mut oobe = vec![
            value("HideEULAPage", true),
            value("HideOEMRegistrationScreen", true),
            value("HideOnlineAccountScreens", true),
            value("HideWirelessSetupInOOBE", true),
            value("ProtectYourPC", 3),
        ];
        let mut accounts = Vec::new();
        if server {
            oobe.insert(1, value("HideLocalAccountScreen", true));
            // A server asks for the built-in administrator's password otherwise.
            let administrator = vec![value("Value", &self.account.password), value("PlainText", true)];
            accounts.push(group("AdministratorPassword", administrator));
        }
        let account = vec![
            password(),
            value("DisplayName", &self.account.name),
            value("Group", "Administrators"),
            value("Name", &self.account.name),
        ];
        accounts.push(group("LocalAccounts", vec![item("LocalAccount", account)]));
        let logon = vec![
            password(),
            value("Enabled", true),
            value("LogonCount", logons),
            value("Username", &self.account.name),
        ];
        vec![group("OOBE", oobe), group("UserAccounts", accounts), group("AutoLogon", logon)]
    }

    fn first_logon(&self) -> Result<Vec<Node>, AnswerError> {
        // One logon: its script makes it last. One command only: the reference says that several are started at the same
        // time, and the last one would shut the machine down under the others.
        let letters = LETTERS.map(String::from).join(" ");
        let script = format!(
            r"cmd.exe /c for %d in ({letters}) do if exist %d:\{FOLDER}\{FIRST_LOGON} call %d:\{FOLDER}\{FIRST_LOGON}"
        );
        let command = vec![value("CommandLine", checked(script, COMMAND_LINE)?), value("Order", 1)];
        let mut nodes = self.out_of_box(1);
        nodes.push(group("FirstLogonCommands", vec![item("SynchronousCommand", command)]));
        Ok(nodes)
    }

    /// The script of the first logon: the agent and its driver, the probe, the logon that lasts; then the machine is
    /// shut down, by sysprep or without, and is an image.
    pub fn first_logon_script(&self, agent: &str) -> Result<String, Unquotable> {
        const WINLOGON: &str = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon";
        let key = quote(Shell::Batch, WINLOGON)?;
        let mut lines = vec![
            "@echo off".to_owned(),
            format!("rem Made by Softoff for {}.", self.entry.name),
            format!("({}) > COM1", echo("first-logon")),
            format!(r#"msiexec.exe /i "%~dp0{agent}" /qn /norestart"#),
            // 3010: done, and a restart is wanted, which comes anyway.
            "if %errorlevel% neq 0 if %errorlevel% neq 3010 goto failed".to_owned(),
            r"if not exist C:\softoff mkdir C:\softoff || goto failed".to_owned(),
            r#"copy /y "%~dp0probe.exe" C:\softoff\probe.exe || goto failed"#.to_owned(),
        ];
        let account = &self.account;
        for (name, data) in [
            ("AutoAdminLogon", "1"),
            ("DefaultUserName", &account.name),
            ("DefaultPassword", &account.password),
        ] {
            let data = quote(Shell::Batch, data)?;
            lines.push(format!("reg.exe add {key} /v {name} /t REG_SZ /d {data} /f || goto failed"));
        }
        // While it is there, each logon counts it down, and the last one ends the automatic logon.
        lines.push(format!("reg.exe delete {key} /v AutoLogonCount /f"));
        lines.extend(self.hardening.iter().map(|line| format!("{line} || goto failed")));
        lines.extend(self.before_the_end());
        lines.extend([
            format!("({}) > COM1", echo("programs-installed")),
            self.end(),
            "exit /b 0".to_owned(),
            ":failed".to_owned(),
            format!("({}) > COM1", echo("first-logon-failed")),
            "exit /b 1".to_owned(),
        ]);
        Ok(lines.join("\r\n") + "\r\n")
    }
}

fn echo(place: &str) -> String {
    format!("echo {}", marker(place))
}

/// A command that writes a marker to COM1 and never fails: Setup gives up over a command that does.
fn tell(place: &str) -> String {
    format!(r#"cmd.exe /c "({}) > COM1 & exit /b 0""#, echo(place))
}

fn run_synchronous(commands: Vec<String>) -> Result<Node, AnswerError> {
    let commands: Result<Vec<Node>, AnswerError> = (1..)
        .zip(commands)
        .map(|(order, command)| {
            let path = value("Path", checked(command, PATH)?);
            Ok(item("RunSynchronousCommand", vec![value("Order", order), path]))
        })
        .collect();
    Ok(group("RunSynchronous", commands?))
}

/// Longest path of a RunSynchronousCommand, characters (Unattended Windows Setup Reference).
const PATH: usize = 259;
/// Longest command line of a SynchronousCommand, characters.
const COMMAND_LINE: usize = 1024;

fn checked(command: String, limit: usize) -> Result<String, AnswerError> {
    let length = command.chars().count();
    if length > limit { Err(AnswerError::TooLong { command, length, limit }) } else { Ok(command) }
}

fn language(windows_pe: bool) -> Vec<Node> {
    let mut nodes = Vec::new();
    if windows_pe {
        nodes.push(group("SetupUILanguage", vec![value("UILanguage", "en-US")]));
    }
    nodes
        .extend(["InputLocale", "SystemLocale", "UILanguage", "UserLocale"].map(|name| value(name, "en-US")));
    nodes
}
