//! Reading the screen: the tesseract program, where it is installed.
//!
//! Exact on plain 16 to 30 point text, 140 to 268 ms a picture (measured, tesseract 5). Optional: without it
//! a diagnosis says what it lacks.

use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::screen_texts::Language;

/// How long one picture may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Whether tesseract is here.
pub fn available() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join("tesseract").is_file())
}

/// The languages of our tables that tesseract has data for, as its `-l` wants them; its default where it does
/// not tell.
fn languages() -> &'static str {
    static LANGUAGES: OnceLock<String> = OnceLock::new();
    LANGUAGES.get_or_init(|| {
        let list = std::process::Command::new("tesseract").arg("--list-langs").stderr(Stdio::null()).output();
        let list = list.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        let here = Language::ALL.map(Language::tesseract).into_iter();
        let here: Vec<&str> = here.filter(|name| list.lines().any(|line| line.trim() == *name)).collect();
        if here.is_empty() { "eng".into() } else { here.join("+") }
    })
}

/// The text of a picture; `None` when it cannot be read.
pub async fn read(picture: &Path) -> Option<String> {
    // tesseract takes a file that is no picture for a list of paths to read.
    let mut head = [0u8; 8];
    let mut file = tokio::fs::File::open(picture).await.ok()?;
    file.read_exact(&mut head).await.ok().filter(|_| head == *b"\x89PNG\r\n\x1a\n")?;
    let mut command = Command::new("tesseract");
    // Page segmentation 11: sparse text in any order, which is what a desktop is. One thread: the guests
    // need the processors.
    command.arg(picture).args(["-", "-l", languages(), "--psm", "11"]).env("OMP_THREAD_LIMIT", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = super::process::spawn(command).await.ok()?;
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
