//! A guest agent as Windows' one talks, at the guest's end of a real socket: guest-sync-delimited with its mark, answers
//! of one line, guest-exec in two steps with base64 of what the programs print (CR LF, OEM code page).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use softoff_harness::guest::driver::GuestDriver;
use softoff_harness::image::GuestFamily;
use softoff_harness::machine::agent::Agent;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// How the agent fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Not at all.
    Honest,
    /// Every answer comes so late.
    Slow(Duration),
    /// `reg add` says that it succeeded, and nothing is written.
    LiesAboutWriting,
    /// guest-exec is not allowed (`--block-rpcs`).
    MayNotExec,
    /// Says that a program has exited, with data that is no base64 and no exit code.
    Garbles,
    /// Sends noise around every answer.
    Noisy,
    /// Says that it wrote more of a file than it was given.
    Overcounts,
    /// Answers only pings.
    DeafButAlive,
}

/// A Windows, as far as the driver asks.
#[derive(Debug, Clone)]
pub(crate) struct FakeWindows {
    pub(crate) osinfo: Value,
    pub(crate) users: Vec<&'static str>,
    pub(crate) processes: Vec<&'static str>,
    /// (key in capitals, name in capitals) to (name, type, data as `reg` prints it).
    registry: BTreeMap<(String, String), (String, String, String)>,
    /// Files that were written, by path; those that are still open have no end yet.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    open: Option<String>,
    /// Every program that was run.
    pub(crate) ran: Vec<String>,
    results: Vec<Value>,
}

const ROOTS: [(&str, &str); 3] =
    [("HKLM", "HKEY_LOCAL_MACHINE"), ("HKU", "HKEY_USERS"), ("HKCU", "HKEY_CURRENT_USER")];

fn long(key: &str) -> String {
    let (root, rest) = key.split_once('\\').unwrap_or((key, ""));
    let root =
        ROOTS.iter().find(|(short, _)| short.eq_ignore_ascii_case(root)).map_or(root, |(_, long)| long);
    if rest.is_empty() { root.to_owned() } else { format!(r"{root}\{rest}") }
}

impl FakeWindows {
    pub(crate) fn new(osinfo: Value) -> FakeWindows {
        FakeWindows {
            osinfo,
            users: vec!["Ada"],
            processes: vec!["System", "explorer.exe", "qemu-ga.exe"],
            registry: BTreeMap::new(),
            files: BTreeMap::new(),
            open: None,
            ran: Vec::new(),
            results: Vec::new(),
        }
    }

    pub(crate) fn set(&mut self, key: &str, name: &str, kind: &str, data: &str) {
        let id = (long(key).to_uppercase(), name.to_uppercase());
        self.registry.insert(id, (format!("{}\n{name}", long(key)), kind.to_owned(), data.to_owned()));
    }

    /// What a program prints, and its exit code.
    fn run(&mut self, program: &str, args: &[&str], manner: Manner) -> (i64, String, String) {
        self.ran.push(format!("{program} {}", args.join(" ")));
        match (program, args) {
            ("reg.exe", ["query", key, rest @ ..]) => self.query(key, rest),
            ("reg.exe", ["add", key, "/v", name, "/t", kind, "/d", data, "/f"]) => {
                let printed = match *kind {
                    "REG_DWORD" => format!("{:#x}", data.parse::<u32>().unwrap_or_default()),
                    _ => (*data).to_owned(),
                };
                if manner != Manner::LiesAboutWriting {
                    self.set(key, name, kind, &printed);
                }
                (0, "The operation completed successfully.\r\n\r\n".into(), String::new())
            }
            ("tasklist.exe", []) => {
                let line = |name: &&str| format!("{name:<25} {:>8} Services {:>14} {:>12} K\r\n", 4, 0, 144);
                (0, format!("\r\n{}", self.processes.iter().map(line).collect::<String>()), String::new())
            }
            ("sc.exe", ["query", name]) if self.processes.contains(name) => {
                (0, "        STATE              : 4  RUNNING\r\n".into(), String::new())
            }
            ("sc.exe", ["query", ..]) => {
                (1060, "[SC] EnumQueryServicesStatus:OpenService FAILED 1060:\r\n".into(), String::new())
            }
            ("sc.exe" | "powercfg.exe" | "schtasks.exe" | "wevtutil.exe", _) => {
                (0, "SUCCESS\r\n".into(), String::new())
            }
            _ => (1, String::new(), format!("'{program}' is not recognized\r\n")),
        }
    }

    fn query(&self, key: &str, rest: &[&str]) -> (i64, String, String) {
        let (wanted, deep) = (long(key).to_uppercase(), rest.contains(&"/s"));
        let name = rest.iter().position(|word| *word == "/v").and_then(|at| rest.get(at + 1));
        let mut out = String::new();
        for ((of, _), (full, kind, data)) in &self.registry {
            let (path, value) = full.split_once('\n').unwrap();
            let here = *of == wanted || deep && of.starts_with(&format!(r"{wanted}\"));
            let below = of.starts_with(&format!(r"{wanted}\")) && name.is_none() && !deep;
            if here && name.is_none_or(|name| name.eq_ignore_ascii_case(value)) {
                out += &format!("\r\n{path}\r\n    {value}    {kind}    {data}\r\n");
            } else if below {
                let child = path[wanted.len() + 1..].split('\\').next().unwrap();
                out += &format!("\r\n{}\\{child}\r\n", &path[..wanted.len()]);
            }
        }
        match out.is_empty() {
            // The sentence is localised; the exit code is not.
            true => (
                1,
                String::new(),
                "ERROR: The system was unable to find the specified registry key or value.\r\n".into(),
            ),
            false => (0, out, String::new()),
        }
    }

    fn answer(&mut self, request: &Value, manner: Manner) -> Value {
        let argument = |name: &str| request.pointer(&format!("/arguments/{name}"));
        let refuse = |what: &str| json!({ "error": { "class": "GenericError", "desc": what } });
        match request["execute"].as_str().unwrap_or_default() {
            "guest-ping" => json!({ "return": {} }),
            "guest-get-osinfo" => json!({ "return": self.osinfo }),
            "guest-get-users" => {
                let user =
                    |name: &&str| json!({ "user": name, "domain": "SOFTOFF", "login-time": 1_700_000_000.5 });
                json!({ "return": self.users.iter().map(user).collect::<Vec<_>>() })
            }
            "guest-file-open" => {
                assert_eq!(
                    argument("mode").and_then(Value::as_str),
                    Some("wb"),
                    "a text mode changes line ends"
                );
                self.open = argument("path").and_then(Value::as_str).map(str::to_owned);
                json!({ "return": 1000 })
            }
            "guest-file-write" => {
                let data = argument("buf-b64").and_then(Value::as_str).unwrap_or_default();
                let data = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
                // Part of it only, as an agent may.
                let taken = data.len().min(300_000);
                let file = self.files.entry(self.open.clone().expect("an open file")).or_default();
                file.extend(&data[..taken]);
                let count = if manner == Manner::Overcounts { data.len() + 1 } else { taken };
                json!({ "return": { "count": count, "eof": false } })
            }
            "guest-file-close" => {
                self.open = None;
                json!({ "return": {} })
            }
            "guest-exec" if manner == Manner::MayNotExec => refuse("Command guest-exec has been disabled"),
            "guest-exec" => {
                let program = argument("path").and_then(Value::as_str).unwrap_or_default().to_owned();
                let args = argument("arg").and_then(Value::as_array).cloned().unwrap_or_default();
                let args: Vec<&str> = args.iter().filter_map(Value::as_str).collect();
                let (code, out, err) = self.run(&program, &args, manner);
                let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
                let mut done = json!({ "exited": true, "exitcode": code });
                for (name, text) in [("out-data", out), ("err-data", err)] {
                    if !text.is_empty() {
                        done[name] = json!(encode(&text));
                    }
                }
                self.results.push(done);
                json!({ "return": { "pid": self.results.len() } })
            }
            "guest-exec-status" if manner == Manner::Garbles => {
                json!({ "return": { "exited": true, "out-data": "?? no base64 ??", "signal": "many" } })
            }
            "guest-exec-status" => {
                let pid = argument("pid").and_then(Value::as_u64).unwrap_or(0) as usize;
                match self.results.get_mut(pid.wrapping_sub(1)) {
                    // The first question comes before the end, as it does on Windows.
                    Some(done) if done.get("asked").is_none() => {
                        done["asked"] = json!(true);
                        json!({ "return": { "exited": false } })
                    }
                    Some(done) => {
                        let mut done = done.clone();
                        done.as_object_mut().unwrap().remove("asked");
                        json!({ "return": done })
                    }
                    None => refuse("Invalid parameter 'pid'"),
                }
            }
            other => {
                json!({ "error": { "class": "CommandNotFound", "desc": format!("The command {other} has not been found") } })
            }
        }
    }
}

/// Serves one connection on a socket in `dir`; gives the driver at its other end, and the Windows when it has gone.
pub(crate) async fn serve(
    dir: &Path,
    mut windows: FakeWindows,
    manner: Manner,
) -> (GuestDriver, tokio::task::JoinHandle<FakeWindows>) {
    let path = dir.join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            if stream.read_until(b'\n', &mut line).await.unwrap_or(0) == 0 {
                return windows;
            }
            let text = line.strip_prefix(b"\xff").unwrap_or(&line);
            let Ok(request) = serde_json::from_slice::<Value>(text) else { continue };
            if let Manner::Slow(time) = manner {
                tokio::time::sleep(time).await;
            }
            let mut out = Vec::new();
            if request["execute"] == "guest-sync-delimited" {
                out.push(0xff);
                out.extend(json!({ "return": request["arguments"]["id"] }).to_string().bytes());
            } else if manner == Manner::DeafButAlive && request["execute"] != "guest-ping" {
                continue;
            } else {
                if manner == Manner::Noisy {
                    out.extend(b"\xb1\xe2 half a line\r\n{\"event\": 1}x\n\n");
                }
                out.extend(windows.answer(&request, manner).to_string().bytes());
            }
            out.push(b'\n');
            if stream.get_mut().write_all(&out).await.is_err() {
                return windows;
            }
        }
    });
    let stream = UnixStream::connect(&path).await.unwrap();
    (GuestDriver::new(GuestFamily::Windows, Agent::new(path, stream)), served)
}
